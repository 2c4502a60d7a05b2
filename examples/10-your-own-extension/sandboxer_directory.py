"""
`ext.directory`: a sandbox is a directory on a host, with files in it that say whose it is.

    <work_root>/directory-<short id>/labels.json
    <work_root>/directory-<short id>/manifest.json    what its object can be rebuilt from
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar

from sandboxer.errors import TerminalError, TransientError
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_SPEC_HASH,
    LABEL_UID,
    Extension,
    Inputs,
    Instance,
    Observation,
    Offer,
    Provisioned,
)
from sandboxer.kinds.host import Host
from sandboxer.kinds.sandbox import Reachability, ResourceSeen
from sandboxer.session import Session

# Arguments: ROOT NAME OURS LABELS; standard input: the manifest. The directory is labelled before it
# gets its name, and files change by a rename: a death at any instruction leaves something that can be
# found or finished.
PROVISION = """
set -eu; umask 077
root=$1 name=$2 dir=$1/$2
rm -rf "$root/.new-$name."*
new=$(mktemp -d "$root/.new-$name.XXXXXX")
printf '%s\\n' "$4" >"$new/labels.json"
cat >"$new/manifest.json"
if [ ! -e "$dir" ]; then mv -T "$new" "$dir"; exit; fi
case "$(cat "$dir/labels.json")" in "$3"*) ;; *) exit 65 ;; esac
mv "$new/manifest.json" "$dir/manifest.json"
mv "$new/labels.json" "$dir/labels.json"
rmdir "$new"
"""

# Arguments: ROOT NAME OURS. Renamed first, so that a half of it is never taken for the whole.
REMOVE = """
set -eu
root=$1 name=$2 dir=$1/$2
if [ -e "$dir" ]; then
    case "$(cat "$dir/labels.json")" in "$3"*) ;; *) exit 65 ;; esac
    mv -T "$dir" "$root/.new-$name.$$"
fi
rm -rf "$root/.new-$name."*
"""

# Arguments: ROOT NAME, empty for all. Labels of all, or labels and manifest of one, a line each; the
# last line tells a whole answer from one that was cut off.
OBSERVE = """
set -eu
cd "$1"
if [ -n "$2" ]; then set -- "$2/labels.json" "$2/manifest.json"; else set -- directory-*/labels.json; fi
[ ! -e "$1" ] || cat "$@"
echo end
"""


class DirectoryExtension(Extension):
    """A directory on any host."""

    name: ClassVar[str] = "ext.directory"

    def offer(self, host: Host, inputs: Inputs) -> Offer:  # noqa: ARG002 - there are no inputs
        """Fit everywhere: a directory needs nothing."""
        return Offer(fits=True, reason=f"{host.metadata.name} has a file system")

    async def provision(self, session: Session, instance: Instance) -> Provisioned:
        """Make the directory, or give it its new labels."""
        root, name = session.facts.work_root, _name(instance.uid)
        ours = _ours(instance.environment, instance.uid)
        labels, manifest = _text(instance.labels(), ours), f"{instance.manifest}\n".encode()
        await _run(session, PROVISION, root, name, ours, labels, stdin=manifest)
        return await self.recall(session, instance)

    async def recall(self, session: Session, instance: Instance) -> Provisioned:
        """Say where the directory is."""
        place = f"{session.facts.work_root}/{_name(instance.uid)}"
        return Provisioned(reachability=Reachability(ssh_target=session.target, remote_dir=place))

    async def wait_ready(self, session: Session, instance: Instance) -> None:
        """Return at once: a directory that is there is ready."""

    async def observe(
        self, session: Session, environment: str, uid: str = ""
    ) -> Sequence[Observation]:
        """Read all label files in one script."""
        printed = await _run(session, OBSERVE, session.facts.work_root, _name(uid) if uid else "")
        lines = printed.splitlines()
        if not lines or lines.pop() != "end":
            raise TransientError(f"The answer of {session.host} is incomplete.")
        manifest = lines.pop() if uid and lines else ""
        seen = [_observation(json.loads(line), manifest) for line in lines]
        return [
            one
            for one in seen
            if environment in ("", one.labels[LABEL_ENVIRONMENT]) and uid in ("", one.uid)
        ]

    async def teardown(self, session: Session, instance: Instance) -> None:
        """Remove the directory."""
        await self.reap(session, instance.environment, instance.uid)

    async def reap(self, session: Session, environment: str, uid: str) -> None:
        """Remove the directory of that uid, if it is of this environment."""
        root = session.facts.work_root
        await _run(session, REMOVE, root, _name(uid), _ours(environment, uid))


def _name(uid: str) -> str:
    return f"directory-{uid.replace('-', '')[:12]}"


def _ours(environment: str, uid: str) -> str:
    """Return how the label file of that sandbox begins."""
    return json.dumps({LABEL_ENVIRONMENT: environment, LABEL_UID: uid}).removesuffix("}")


def _text(labels: Mapping[str, str], ours: str) -> str:
    """Return labels as one line of JSON that begins with *ours*."""
    rest = {k: v for k, v in labels.items() if k not in (LABEL_ENVIRONMENT, LABEL_UID)}
    return f"{ours}, {json.dumps(rest).removeprefix('{')}"


def _observation(labels: Mapping[str, str], manifest: str) -> Observation:
    uid = labels[LABEL_UID]
    directory = ResourceSeen(kind="workspace", name=_name(uid), state="present")
    return Observation(
        uid=uid,
        state="Running",
        spec_hash=labels[LABEL_SPEC_HASH],
        resources=(directory,),
        labels=labels,
        manifest=manifest,
    )


async def _run(session: Session, script: str, *arguments: str, stdin: bytes = b"") -> str:
    completed = await session.script(script, *arguments, stdin=stdin)
    if completed.exit_status == 65:  # noqa: PLR2004 - as the scripts above exit
        raise TerminalError(
            f"{arguments[1]} on {session.host} belongs to somebody else.",
            remedy="Move it away by hand.",
        )
    if completed.exit_status:
        raise TransientError(f"A script failed on {session.host}: {completed.error_text()}")
    return completed.stdout.decode()
