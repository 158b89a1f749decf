"""`make demo`: a StatefulSet that gets its data back, played on a real cluster and checked step by step.

`story` says what happens and what has to be seen, `teller` prints it, `stage` is the cluster it is played on.
"""
