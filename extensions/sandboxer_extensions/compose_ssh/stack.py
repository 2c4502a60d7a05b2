"""
From one `Instance` to the files of its workspace: what should run, as one compose document.

Layout below the work root, all of it out of reach of the sandbox's processes except `repo`:

    sbx-<id>/.sandboxer.json   marker: labels and expected services; there from the first instant
    sbx-<id>/manifest.json     what the sandbox's object can be rebuilt from
    sbx-<id>/compose.yaml      the document that runs, mode 0600
    sbx-<id>/secrets.env       secrets, for tools that would put them into arguments
    sbx-<id>/repo/             copy of the repository, the only part containers may mount
    .locks/sbx-<id>            lock of every changing command
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandboxer.errors import InvalidSpecError
from sandboxer.extension import (
    LABEL_ENVIRONMENT,
    LABEL_EXTENSION,
    LABEL_NAME,
    LABEL_NAMESPACE,
    LABEL_UID,
    Instance,
)
from sandboxer.kinds.meta import GROUP
from sandboxer_extensions.compose_ssh.document import MAX_DOCUMENT_BYTES, read_document
from sandboxer_extensions.compose_ssh.inputs import ComposeInputs
from sandboxer_extensions.compose_ssh.policy import Checked, Policy

LABEL_SERVICE = f"{GROUP}/service"
LABEL_EXPECTED = f"{GROUP}/expected"
"""Comma separated names of all services, in the file's order."""
LABEL_ONESHOT = f"{GROUP}/oneshot"
"""`true` on a service that is done once it has ended with status 0."""
ONLY_SERVICE = "main"
MARKER = ".sandboxer.json"

COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""Names looked for in a repository, in the order of the compose specification."""

# Networks and volumes outlive a change of the spec; a tool that sees another label on one offers
# to recreate it, data and all. They carry only what never changes.
_LASTING_LABELS = (LABEL_UID, LABEL_ENVIRONMENT, LABEL_NAMESPACE, LABEL_NAME, LABEL_EXTENSION)


# The plain keys of a service that say the same as those of `deploy.resources.limits`.
_PLAIN_KEYS = {"memory": "mem_limit", "cpus": "cpus", "pids": "pids_limit"}

# What JSON leaves as it is and YAML wants escaped. Source: YAML 1.2, 5.1 (printable characters).
_UNPRINTABLE = re.compile("[\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What should be on the host for one sandbox."""

    workspace: str
    """Absolute directory on the host."""
    services: tuple[str, ...]
    files: dict[str, bytes]
    """Content of the workspace's own files, by name."""
    host_paths: tuple[str, ...]
    """Paths that must not lead out of the repository; checked on the host before anything runs."""
    upload_from: str
    """Local directory to copy to `repo`, or empty."""
    builds: bool
    secrets: bool
    """Whether secrets.env has to be handed to the tool."""
    notes: tuple[str, ...]

    @property
    def repo_dir(self) -> str:
        """The directory a person works in."""
        return f"{self.workspace}/repo"

    @property
    def upload_digest(self) -> str:
        """Changes when another repository is wanted; never with its content."""
        return hashlib.sha256(self.upload_from.encode()).hexdigest()[:16]

    def archive(self) -> bytes:
        """Return `files` as a tar archive, each with mode 0600."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name, content in self.files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o600
                archive.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()


def repo_dir(instance: Instance, work_root: str) -> str:
    """Return the directory on the host that a person works in."""
    return f"{work_root}/{instance.short_id}/repo"


def build_stack(
    instance: Instance, *, work_root: str, qualified_images: bool, secrets_in_file: bool
) -> Stack:
    """
    Work out what should run for *instance*; reads the repository's compose file, changes nothing.

    Raises:
        InvalidSpecError: The compose file is missing, refused, or does not fit the spec.
    """
    inputs = instance.inputs
    assert isinstance(inputs, ComposeInputs)
    workspace = f"{work_root}/{instance.short_id}"
    text, origin, field, subdirectory = _compose_text(inputs)
    policy = Policy(
        origin=origin, field=field, repo_dir=f"{workspace}/repo", has_files=inputs.repo is not None,
        project_dir=f"{workspace}/repo/{subdirectory}".rstrip("/"), qualified_images=qualified_images,
    )  # fmt: skip
    checked = policy.check(read_document(text, origin=origin, field=field))
    _Overlay(instance, checked, secrets_in_file=secrets_in_file).apply()
    services = tuple(checked.services)
    marker = {"labels": instance.labels(), "expected": list(services)}
    return Stack(
        workspace=workspace,
        services=services,
        files={
            MARKER: json.dumps(marker, separators=(",", ":")).encode(),
            "manifest.json": instance.manifest.encode(),
            "compose.yaml": _document(checked),
            "secrets.env": _secrets_file(instance) if secrets_in_file else b"",
        },
        host_paths=tuple(checked.host_paths),
        upload_from=str(Path(inputs.repo).expanduser()) if inputs.repo else "",
        builds=any("build" in service for service in checked.services.values()),
        secrets=bool(instance.secrets) and secrets_in_file,
        notes=tuple(checked.notes),
    )


def _compose_text(inputs: ComposeInputs) -> tuple[str, str, str, str]:
    """Return the compose text, its name, the field it came from and its directory in the repo."""
    if inputs.compose is not None:
        return inputs.compose, "the compose text", "spec.inputs.compose", ""
    if inputs.repo is not None:
        repo = Path(inputs.repo).expanduser()
        found = _find_compose_file(repo, inputs)
        if found is not None:
            parent = found.parent.as_posix()
            subdirectory = "" if parent == "." else parent
            return _read(repo / found), str(found), "spec.inputs.compose_file", subdirectory
    service: dict[str, Any] = {"image": inputs.image}
    if inputs.command is not None:
        service["command"] = _words(inputs.command)
    if inputs.repo is not None:
        service |= {"volumes": ["./:/workspace"], "working_dir": "/workspace"}
    text = json.dumps({"services": {ONLY_SERVICE: service}})
    return text, "the only service", "spec.inputs.image", ""


def _words(command: str) -> list[str]:
    try:
        return [word.replace("$", "$$") for word in shlex.split(command)]
    except ValueError as error:
        raise InvalidSpecError(
            f"The command cannot be split into words: {error}.", field="spec.inputs.command"
        ) from None


def _find_compose_file(repo: Path, inputs: ComposeInputs) -> Path | None:
    """Return the compose file relative to *repo*; None when the sandbox can do without."""
    if not repo.is_dir():
        raise InvalidSpecError(
            f"repo {repo} is not a directory on the controller's machine.",
            field="spec.inputs.repo",
        )
    names = (inputs.compose_file,) if inputs.compose_file else COMPOSE_FILES
    for name in names:
        path = (repo / name).resolve()
        if path.is_file():
            if not path.is_relative_to(repo.resolve()):
                raise InvalidSpecError(
                    f"{name} leads out of the repository.", field="spec.inputs.compose_file"
                )
            return path.relative_to(repo.resolve())
    if inputs.image is not None and inputs.compose_file is None:
        return None
    raise InvalidSpecError(
        f"repo {repo} has no {' or '.join(names)}.", field="spec.inputs.compose_file",
        remedy="Name the file in the input compose_file, or give an image.",
    )  # fmt: skip


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSpecError(
            f"{path} cannot be read: {error}.", field="spec.inputs.compose_file"
        ) from None


def _document(checked: Checked) -> bytes:
    """
    Return the compose document as JSON, which every YAML reader takes the same way.

    Letters stand as themselves: YAML does not join the two halves JSON escapes an emoji into.
    """
    parts = {
        "services": checked.services, "networks": checked.networks, "volumes": checked.volumes,
        "configs": checked.configs, "secrets": checked.secrets,
    }  # fmt: skip
    present = {name: part for name, part in parts.items() if part}
    text = json.dumps(present, indent=1, ensure_ascii=False)
    try:
        return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
    except UnicodeEncodeError as error:
        raise InvalidSpecError(
            f"The compose file holds half of a character: {error.reason}.", reason="ComposeRefused"
        ) from None


def _secrets_file(instance: Instance) -> bytes:
    """Return podman's --env-file format: `NAME=value` as it is, one line each."""
    lines = []
    for name, secret in instance.secrets.items():
        value = secret.get_secret_value()
        if "\n" in value or "\0" in value:
            raise InvalidSpecError(
                f"Secret {name} holds a line break, which podman-compose cannot pass without "
                "showing it in the list of processes.",
                field="spec.secretRefs",
                remedy="Encode it, for example with base64, or use docker compose on the host.",
            )
        lines.append(f"{name}={value}\n")
    return "".join(lines).encode()


class _Overlay:
    """Adds labels, environment, limits and ports of the sandbox to a checked document."""

    def __init__(self, instance: Instance, checked: Checked, *, secrets_in_file: bool) -> None:
        self._instance = instance
        self._checked = checked
        self._secrets_in_file = secrets_in_file
        self._labels = {**instance.labels(), LABEL_EXPECTED: ",".join(checked.services)}
        self._oneshots = {
            name
            for service in checked.services.values()
            for name, options in service.get("depends_on", {}).items()
            if options.get("condition") == "service_completed_successfully"
        }

    def apply(self) -> None:
        """Change the document in place."""
        lasting = {key: self._labels[key] for key in _LASTING_LABELS}
        for name, service in self._checked.services.items():
            self._label(name, service)
            self._place_in_network(service)
            self._limit(service)
            service["environment"] = self._environment(service.get("environment"))
            if "build" in service:
                # NOTE: a name of ours, or a repository could replace an image others use.
                service["image"] = f"localhost/{self._instance.short_id}_{name.lower()}:built"
        for part in (*self._checked.networks.values(), *self._checked.volumes.values()):
            part["labels"] = lasting
        self._publish()

    def _label(self, name: str, service: dict[str, Any]) -> None:
        labels = {**_as_mapping(service.get("labels")), **self._labels, LABEL_SERVICE: name}
        if name in self._oneshots:
            labels[LABEL_ONESHOT] = "true"
        service["labels"] = labels

    def _place_in_network(self, service: dict[str, Any]) -> None:
        # NOTE: said aloud, because podman-compose takes the only declared network as the default.
        if "network_mode" not in service and not service.get("networks"):
            service["networks"] = ["default"]
            self._checked.networks.setdefault("default", {})

    def _limit(self, service: dict[str, Any]) -> None:
        resources = self._instance.resources
        limits: dict[str, Any] = {}
        if resources.memory is not None:
            limits["mem_limit"] = resources.memory.size_bytes
        if resources.cpu is not None:
            limits["cpus"] = resources.cpu.cores
        if resources.pids is not None:
            limits["pids_limit"] = resources.pids
        if limits:
            # Two ways to say the same limit are an error in compose, and ours is the upper one.
            own = service.pop("deploy", {}).get("resources", {}).get("limits") or {}
            kept = {
                name: value for name, value in own.items() if _PLAIN_KEYS.get(name) not in limits
            }
            if kept:
                service["deploy"] = {"resources": {"limits": kept}}
        service.update(limits)

    def _environment(self, own: Any) -> dict[str, Any]:
        environment = {**_as_mapping(own), **_literal(self._instance.env)}
        for name, secret in self._instance.secrets.items():
            if self._secrets_in_file:
                environment.pop(name, None)
            else:
                environment[name] = secret.get_secret_value().replace("$", "$$")
        return environment

    def _publish(self) -> None:
        for lease in self._instance.ports:
            names = list(self._checked.services)
            if not lease.service and len(names) > 1:
                raise InvalidSpecError(
                    f"Port {lease.name} names no service, and there are {', '.join(names)}.",
                    field="spec.ports",
                )
            service = self._checked.services.get(lease.service or names[0])
            if service is None:
                raise InvalidSpecError(
                    f"Port {lease.name} names service {lease.service}, which is not in the file.",
                    field="spec.ports",
                )
            service.setdefault("ports", []).append(
                f"127.0.0.1:{lease.host_port}:{lease.container_port}"
            )


def _as_mapping(pairs: Any) -> dict[str, Any]:
    """Return compose's `environment` or `labels` as a mapping, whichever form they have."""
    if isinstance(pairs, list):
        split = [str(pair).partition("=") for pair in pairs]
        return {name: value if equals else None for name, equals, value in split}
    return {
        str(name): str(value).lower() if isinstance(value, bool) else value
        for name, value in (pairs or {}).items()
    }


def _literal(values: Any) -> dict[str, str]:
    """Return *values* so that compose does not take a dollar sign for a variable."""
    return {name: str(value).replace("$", "$$") for name, value in values.items()}
