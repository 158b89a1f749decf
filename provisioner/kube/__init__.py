"""The Kubernetes API as this program uses it: client, typed objects, watch → cache → queue → handler, and events.

    API server ──list, watch──▶ cache ──changed keys──▶ queue ──▶ a controller's handler ──patches──▶ API server
                                                                        └──▶ events

Nothing here knows what a claim's handler does; the kinds are Kubernetes' own, trimmed to the fields in use.
"""
