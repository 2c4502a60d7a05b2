"""
What of a compose file may run on somebody's machine: an allow-list, and nothing passes by default.

`Policy.check` returns a new document: relative paths made absolute inside the sandbox's own
directory, published host ports left out (two sandboxes would fight for them), keys for people
(`name`, `version`, `x-*`) dropped. That document is what runs, never the file in the repository: a
process in the sandbox that can write the repository must not be able to change it afterwards.

Source:
    What each refused key gave on a real host was tried out; `docs/compose.md` has the list.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sandboxer.errors import InvalidSpecError
from sandboxer_extensions.compose_ssh.document import read_document

# A service becomes a part of container names and of a comma separated label.
_SERVICE_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}", re.ASCII)
# Services of one sandbox; one `up` has to finish within minutes.
MAX_SERVICES = 64

# Keys that are copied as they are: they change only what happens inside the container.
_COPIED = frozenset({
    "cap_drop", "command", "cpu_shares", "cpus", "dns", "dns_search", "entrypoint",
    "environment", "expose", "group_add", "healthcheck", "hostname", "init", "labels", "mem_limit",
    "mem_reservation", "memswap_limit", "pids_limit", "platform", "profiles", "pull_policy",
    "read_only", "restart", "shm_size", "stdin_open", "stop_grace_period", "stop_signal", "tmpfs",
    "tty", "ulimits", "user", "working_dir",
})  # fmt: skip
_TOP_LEVEL = frozenset({"services", "volumes", "networks", "configs", "secrets"})
_BUILD = frozenset({"args", "context", "dockerfile", "dockerfile_inline", "target"})
_MOUNT_MODES = frozenset({"ro", "rw", "z", "Z"})
_LOCAL_LOG_DRIVERS = frozenset({"json-file", "k8s-file", "local", "none"})

_WHY = {
    "annotations": "they are orders to the container runtime, some of which write files of the host",
    "privileged": "it gives the container every device of the host",
    "devices": "it gives the container a device of the host",
    "device_cgroup_rules": "it gives the container devices of the host",
    "cap_add": "it gives the container powers over the host",
    "pid": "it shares the host's processes",
    "ipc": "it shares the host's memory segments",
    "uts": "it shares the host's name",
    "userns_mode": "it shares the host's users",
    "cgroup": "it shares the host's control groups",
    "cgroup_parent": "it leaves the sandbox's control group",
    "container_name": "two sandboxes on one host would fight for the name",
    "volumes_from": "it takes volumes of other containers",
    "runtime": "it names a program of the host",
    "sysctls": "it changes kernel settings",
    "extra_hosts": "it can name the host itself",
    "include": "the included file is not checked; put the services into one file",
    "external": "it would be shared with others",
    "driver_opts": "it can mount any directory of the host",
    "name": "names are given by the sandbox",
    "links": "services of one sandbox find each other by name",
    "external_links": "it reaches containers of others",
}


@dataclass(slots=True)
class Checked:
    """A compose document that may run, and what the script on the host still has to look at."""

    services: dict[str, dict[str, Any]]
    """By name, in the file's order; services behind a compose profile left out."""
    volumes: dict[str, dict[str, Any]]
    networks: dict[str, dict[str, Any]]
    configs: dict[str, dict[str, Any]]
    secrets: dict[str, dict[str, Any]]
    host_paths: list[str] = field(default_factory=list)
    """Absolute paths below the repository that will be opened: no link may lead them out."""
    notes: list[str] = field(default_factory=list)
    """Sentences about what of the file is not followed."""


class Policy:
    """
    Checks one compose document.

    Args:
        origin: Name of the file, for messages.
        field: Field of the manifest that led to it.
        project_dir: Absolute directory on the host that relative paths start from.
        repo_dir: Absolute directory on the host that no path may leave.
        has_files: Whether there is a repository at all.
        qualified_images: Refuse image names without a registry, as podman does.
    """

    def __init__(
        self,
        *,
        origin: str,
        field: str,
        project_dir: str,
        repo_dir: str,
        has_files: bool,
        qualified_images: bool,
    ) -> None:
        self._origin = origin
        self._field = field
        self._project_dir = project_dir
        self._repo_dir = repo_dir
        self._has_files = has_files
        self._qualified_images = qualified_images
        self._paths: list[str] = []
        self._notes: list[str] = []

    def check(self, document: Mapping[str, Any]) -> Checked:
        """
        Return what may run.

        Raises:
            InvalidSpecError: Naming the service, the key, the reason and what to do.
        """
        for key in document:
            if (
                key not in _TOP_LEVEL
                and key not in {"name", "version"}
                and not key.startswith("x-")
            ):
                self._refuse("the file", key)
        if "x-podman" in document:
            self._refuse("the file", "x-podman")
        services = {
            name: self._service(name, self._mapping(f"service {name}", body))
            for name, body in self._mapping("services", document.get("services")).items()
        }
        if not services or len(services) > MAX_SERVICES:
            self._fail(f"it must have 1 to {MAX_SERVICES} services, and it has {len(services)}")
        enabled = {n: s for n, s in services.items() if not s.pop("profiles", None)}
        if not enabled:
            self._fail("all its services belong to compose profiles, so none would run")
        return Checked(
            services=enabled,
            volumes=self._volumes(document.get("volumes")),
            networks=self._networks(document.get("networks")),
            configs=self._files("config", document.get("configs")),
            secrets=self._files("secret", document.get("secrets")),
            host_paths=self._paths,
            notes=self._notes,
        )

    def _fail(self, problem: str, *, remedy: str = "") -> NoReturn:
        raise InvalidSpecError(
            f"{self._origin}: {problem}.", field=self._field, reason="ComposeRefused", remedy=remedy
        )

    def _refuse(self, where: str, key: str) -> NoReturn:
        why = _WHY.get(key, "it is not among the keys that are known to be safe")
        self._fail(f"`{key[:60]}` of {where} is refused: {why}", remedy="Remove it.")

    def _mapping(self, where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._fail(f"{where[:80]} must be a mapping")
        return value

    def _service(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if not _SERVICE_NAME.fullmatch(name):
            self._fail(
                f"service name {name[:60]!r} may hold letters, digits, `_`, `.` and `-` only"
            )
        where = f"service {name}"
        checked: dict[str, Any] = {}
        for key, value in body.items():
            kept = self._kept(where, key, value)
            if kept is not None:
                checked[key] = kept
        if not checked.keys() & {"image", "build", "extends"}:
            self._fail(f"{where} has neither image nor build")
        for key in ("environment", "labels"):
            self._pairs(f"{key} of {where}", checked.get(key))
        self._refuse_own_labels(where, checked.get("labels"))
        return checked

    def _kept(self, where: str, key: str, value: Any) -> Any:
        """Return what stays of one key of a service; None leaves it out."""
        if key in _COPIED:
            return value
        if key in _JUDGED:
            return getattr(self, f"_key_{key}")(where, value)
        harmless = value in (None, False, []) or key.startswith("x-")
        if not harmless or key == "x-podman":
            self._refuse(where, key)
        return None

    def _key_ports(self, where: str, value: Any) -> None:
        if value:
            self._notes.append(
                f"the ports of {where} are not published on the host; name them in spec.ports"
            )

    def _pairs(self, where: str, value: Any) -> None:
        """Refuse what is neither a mapping of plain values nor a list of them."""
        items = value.values() if isinstance(value, dict) else value
        if value is not None and (
            not isinstance(value, dict | list) or any(isinstance(x, dict | list) for x in items)
        ):
            self._fail(f"{where} must be a mapping, or a list of NAME=value")

    def _refuse_own_labels(self, where: str, labels: Any) -> None:
        names = labels if isinstance(labels, dict) else [str(x).split("=")[0] for x in labels or []]
        if any(str(name).startswith("sandboxer.dev/") for name in names):
            self._fail(f"a label of {where} begins with sandboxer.dev/, which is ours")

    def _key_image(self, where: str, value: Any) -> str:
        if not isinstance(value, str) or not value or value.startswith("-"):
            self._fail(f"the image of {where} is no name")
        first, slash, _ = value.partition("/")
        qualified = bool(slash) and ("." in first or ":" in first or first == "localhost")
        if self._qualified_images and not qualified:
            full = f"docker.io/{value}" if slash else f"docker.io/library/{value}"
            self._fail(
                f"image {value[:120]!r} of {where} names no registry, and podman does not guess one",
                remedy=f"Write {full[:160]}.",
            )
        return value

    def _key_build(self, where: str, value: Any) -> dict[str, Any]:
        build = {"context": value} if isinstance(value, str) else self._mapping(where, value)
        for key in build:
            if key not in _BUILD:
                self._refuse(f"build of {where}", key)
        context = self._path(f"build.context of {where}", build.get("context", "."))
        dockerfile = build.get("dockerfile")
        if dockerfile is not None:
            self._path(f"build.dockerfile of {where}", dockerfile, base=context)
        return {**build, "context": context}

    def _key_extends(self, where: str, value: Any) -> Any:
        service = value.get("service") if isinstance(value, dict) else value
        if not isinstance(service, str) or (isinstance(value, dict) and set(value) != {"service"}):
            self._fail(f"`extends` of {where} may name a service of the same file only")
        return {"service": service}

    def _key_network_mode(self, where: str, value: Any) -> str:
        if value != "none":
            self._fail(f"network_mode of {where} may be none only, other modes share networks")
        return "none"

    def _key_networks(self, where: str, value: Any) -> Any:
        if isinstance(value, dict):
            for name, options in value.items():
                if not isinstance(options, dict | None) or set(options or {}) - {"aliases"}:
                    self._fail(f"network {name[:60]} of {where} may have aliases only")
        elif not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            self._fail(f"networks of {where} must be a list of names")
        return value

    def _key_security_opt(self, where: str, value: Any) -> Any:
        for item in value if isinstance(value, list) else [value]:
            if str(item).replace("=", ":") not in {"no-new-privileges", "no-new-privileges:true"}:
                self._fail(f"security_opt of {where} may be no-new-privileges:true only")
        return value

    def _key_logging(self, where: str, value: Any) -> Any:
        driver = self._mapping(f"logging of {where}", value).get("driver")
        if not isinstance(driver, str) or driver not in _LOCAL_LOG_DRIVERS:
            self._fail(f"logging of {where} must stay on the host: {sorted(_LOCAL_LOG_DRIVERS)}")
        return value

    def _key_deploy(self, where: str, value: Any) -> Any:
        deploy = self._mapping(f"deploy of {where}", value)
        resources = self._mapping(f"deploy.resources of {where}", deploy.get("resources") or {})
        if deploy.get("replicas", 1) != 1:
            self._fail(f"deploy.replicas of {where} must be 1")
        for kind in ("limits", "reservations"):
            amounts = self._mapping(f"{kind} of {where}", resources.get(kind) or {})
            if amounts.get("devices"):
                self._refuse(f"deploy of {where}", "devices")
        return {"resources": resources} if resources else None

    def _key_scale(self, where: str, value: Any) -> None:
        if value != 1:
            self._fail(f"scale of {where} must be 1")

    def _key_depends_on(self, where: str, value: Any) -> Any:
        if isinstance(value, list):
            return {str(name): {"condition": "service_started"} for name in value}
        for name, options in self._mapping(f"depends_on of {where}", value).items():
            if not isinstance(options, dict):
                self._fail(f"depends_on.{name[:60]} of {where} must be a mapping")
        return value

    def _key_env_file(self, where: str, value: Any) -> list[str]:
        files = value if isinstance(value, list) else [value]
        return [
            self._path(f"env_file of {where}", f.get("path") if isinstance(f, dict) else f)
            for f in files
        ]

    def _key_configs(self, where: str, value: Any) -> Any:
        if not isinstance(value, list):
            self._fail(f"configs of {where} must be a list")
        return value

    _key_secrets = _key_configs

    def _key_volumes(self, where: str, value: Any) -> list[Any]:
        if not isinstance(value, list):
            self._fail(f"volumes of {where} must be a list")
        return [self._mount(where, entry) for entry in value]

    def _mount(self, where: str, entry: Any) -> Any:
        if isinstance(entry, dict):
            return self._long_mount(where, entry)
        parts = str(entry).split(":")
        if "$" in parts[0] or len(parts) > 3:  # noqa: PLR2004 - source:target:mode
            self._fail(f"volume {str(entry)[:80]!r} of {where} cannot be judged")
        if len(parts) == 3 and not set(parts[2].split(",")) <= _MOUNT_MODES:  # noqa: PLR2004
            self._fail(f"mode {parts[2][:40]!r} of a volume of {where} is not supported")
        if len(parts) > 1 and parts[0].startswith((".", "/", "~")):
            parts[0] = self._path(f"volume of {where}", parts[0])
        return ":".join(parts)

    def _long_mount(self, where: str, entry: dict[str, Any]) -> dict[str, Any]:
        if set(entry) - {"type", "source", "target", "read_only", "tmpfs"}:
            self._fail(f"a volume of {where} has options other than source, target and read_only")
        kind, source = entry.get("type"), entry.get("source")
        if kind == "bind":
            return {**entry, "source": self._path(f"volume of {where}", source)}
        if (
            not isinstance(kind, str)
            or kind not in {"volume", "tmpfs"}
            or (source and re.search(r"[$/~]|^\.", str(source)))
        ):
            self._fail(f"a volume of {where} must be of type bind, volume or tmpfs")
        return entry

    def _path(self, where: str, value: Any, *, base: str = "") -> str:
        """Return *value* as an absolute path on the host, provided it stays in the repository."""
        if not isinstance(value, str) or not value or re.search(r"[$\x00-\x1f:]|^[-~]", value):
            self._fail(f"{where}: {str(value)[:80]!r} is no path that can be judged")
        if not self._has_files:
            self._fail(f"{where} names {value[:80]!r}, and the sandbox has no repo to take it from")
        path = posixpath.normpath(posixpath.join(base or self._project_dir, value))
        if path != self._repo_dir and not path.startswith(f"{self._repo_dir}/"):
            self._fail(
                f"{where} names {value[:80]!r}, which is outside the repository",
                remedy="Use a path inside the repository, or a named volume.",
            )
        self._paths.append(path)
        return path

    def _volumes(self, value: Any) -> dict[str, dict[str, Any]]:
        volumes: dict[str, dict[str, Any]] = {}
        for name, body in self._mapping("volumes", value or {}).items():
            options = body or {}
            self._only(f"volume {name}", options, {"labels", "driver"})
            if options.get("driver", "local") != "local":
                self._fail(f"driver of volume {name[:60]} must be local")
            volumes[name] = {}
        return volumes

    def _networks(self, value: Any) -> dict[str, dict[str, Any]]:
        networks: dict[str, dict[str, Any]] = {}
        for name, body in self._mapping("networks", value or {}).items():
            options = body or {}
            self._only(f"network {name}", options, {"labels", "driver", "internal", "attachable"})
            if options.get("driver", "bridge") != "bridge":
                self._fail(f"driver of network {name[:60]} must be bridge")
            networks[name] = {"internal": True} if options.get("internal") else {}
        return networks

    def _files(self, kind: str, value: Any) -> dict[str, dict[str, Any]]:
        files: dict[str, dict[str, Any]] = {}
        for name, body in self._mapping(f"{kind}s", value or {}).items():
            options = self._mapping(f"{kind} {name}", body)
            self._only(f"{kind} {name}", options, {"file", "content"})
            files[name] = dict(options)
            if "file" in options:
                files[name]["file"] = self._path(f"{kind} {name}", options["file"])
        return files

    def _only(self, where: str, options: Any, allowed: set[str]) -> None:
        for key, value in self._mapping(where, options).items():
            if key not in allowed and value not in (None, False):
                self._refuse(where[:80], key)


def check_text(text: str, *, origin: str, field: str, qualified_images: bool) -> None:
    """
    Check a compose text that comes without files; see `Policy` for the arguments.

    Raises:
        InvalidSpecError: It is not YAML, or asks for more than a sandbox may have.
    """
    Policy(
        origin=origin, field=field, project_dir="/", repo_dir="/", has_files=False,
        qualified_images=qualified_images,
    ).check(read_document(text, origin=origin, field=field))  # fmt: skip


_JUDGED = frozenset(name.removeprefix("_key_") for name in vars(Policy) if name.startswith("_key_"))
