"""The text of a manifest for a cluster."""

from __future__ import annotations

from machine.cli.export import manifest_of
from machine.ops.export_kubevirt import Manifest


def test_comments_stay_comments_whatever_the_paths_of_folders_are() -> None:
    found = Manifest(objects={"kind": "List"}, usage=("Make it", "  Host a"), lost=("the folder /a\nkind: Pod:/b",))
    assert manifest_of("box", found) == (
        "# box for KubeVirt. It contains the private host key of its guest.\n#\n# Make it\n#   Host a\n#\n"
        "# The cluster does not have\n# - the folder /a kind: Pod:/b\nkind: List\n"
    )
