"""Which attacher a volume gets."""

import pytest

from provisioner import errors, metrics
from provisioner.backends.rbd.attach import choice
from tests.fakes import attachers, rbd_state


def build(*, krbd: str = "", fuse: str = "", preferred: str = "auto") -> tuple[choice.Choice, metrics.Metrics]:
    ceph, measured = rbd_state.Ceph(), metrics.Metrics()
    both = [attachers.FakeAttacher(ceph, "krbd", why_not=krbd), attachers.FakeAttacher(ceph, "fuse", why_not=fuse)]
    return choice.Choice(both, measured, preferred=preferred), measured


@pytest.mark.parametrize(
    ("krbd", "preferred", "mounter", "expected"),
    [
        ("", "auto", "auto", "krbd"),
        ("no module", "auto", "auto", "fuse"),
        ("", "fuse", "auto", "fuse"),
        ("", "fuse", "krbd", "krbd"),
    ],
)
def test_the_class_decides_then_the_node_then_what_works(
    krbd: str, preferred: str, mounter: str, expected: str
) -> None:
    chosen, _ = build(krbd=krbd, preferred=preferred)
    assert chosen.pick(mounter).name == expected


def test_a_node_that_cannot_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    chosen, _ = build(krbd="the kernel has no rbd", fuse="/dev/fuse is missing")
    with pytest.raises(errors.NotReadyError, match="krbd: the kernel has no rbd; fuse: /dev/fuse is missing"):
        chosen.pick("auto")
    with pytest.raises(errors.NotReadyError) as caught:
        chosen.pick("krbd")
    assert "fuse" not in caught.value.message


def test_what_a_node_can_is_a_metric() -> None:
    chosen, measured = build(krbd="no module")
    chosen.probe()
    shown = {
        name: measured.registry.get_sample_value("provisioner_rbd_mounter", {"mounter": name})
        for name in ("krbd", "fuse")
    }
    assert shown == {"krbd": 0, "fuse": 1}


def test_an_attacher_of_another_version_is_named() -> None:
    chosen, _ = build()
    with pytest.raises(errors.BackendUnavailableError, match="'iscsi'"):
        chosen.named("iscsi")
