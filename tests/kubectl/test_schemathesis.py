"""
The API does what its OpenAPI documents say, under requests that a program has made up.

`SCHEMATHESIS_SECONDS=600 pytest tests/kubectl/test_schemathesis.py` looks longer, and
`SCHEMATHESIS_SEED` elsewhere; the seed is printed with every failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubectl.schemathesis_hooks import KNOWN, NAMESPACE
from tests.kubectl.session import GROUP_VERSION, Kubectl, pool, sandbox
from tests.kubectl.standalone import Standalone, standalone
from tests.rig.kubectl import kubectl_program

CHECKOUT = Path(__file__).parents[2]

SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
# Seconds for all documents together; the first one has half of them.
SECONDS = int(os.environ.get("SCHEMATHESIS_SECONDS", "24"))

# NOTE: what is valid by a schema may be refused nonetheless (a profile that does not exist, a rule
# between two fields), so acceptance is not checked; what is refused must say so as documented.
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance,allow_header_conformance"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    """The API without an engine: what is made up is never carried out."""
    with standalone(tmp_path_factory.mktemp("api")) as running:
        host = {"kind": "Host", "spec": {"transport": "local"}}
        profile = {"kind": "Profile", "spec": {"candidates": [{"extension": "ext.local"}]}}
        home = tmp_path_factory.mktemp("home")
        running_kubectl = Kubectl(kubectl_program(), home, running.kubeconfig, NAMESPACE)
        for document in (sandbox(KNOWN), pool(KNOWN, 2), host, profile):
            known = {"apiVersion": GROUP_VERSION, "metadata": {"name": KNOWN}}
            running_kubectl.apply({**document, **known})
        yield running


@pytest.mark.timeout(SECONDS * 3 + 60)
@pytest.mark.parametrize(
    ("document", "share"),
    [
        ("apis/sandboxer.dev/v1alpha1", 2),
        ("api/v1", 4),
        ("apis/events.k8s.io/v1", 12),
        ("apis/authorization.k8s.io/v1", 12),
        ("apis/authentication.k8s.io/v1", 12),
    ],
)
def test_answers_are_as_documented(
    server: Standalone, document: str, share: int, tmp_path: Path
) -> None:
    """No server error, and no answer whose code, type or form is not documented."""
    done = subprocess.run(
        [
            Path(sys.prefix) / "bin/schemathesis", "run", f"{server.url}/openapi/v3/{document}",
            f"--url={server.url}", f"--tls-verify={server.authority}", f"--header=Authorization: Bearer {server.token}",
            f"--max-time={SECONDS // share}", f"--seed={SEED}", f"--checks={CHECKS}",
            # Without an engine these say 503, as documented.
            "--exclude-path-regex=/(log|exec|attach|portforward|inventory|reap|lost|adopt)$",
            "--phases=coverage,fuzzing", "--continue-on-failure", "--request-timeout=20",
            "--generation-database=none", "--warnings=off", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ
        | {"PYTHONPATH": str(CHECKOUT), "SCHEMATHESIS_HOOKS": "tests.kubectl.schemathesis_hooks"},
    )  # fmt: skip

    assert done.returncode == 0, f"seed {SEED}\n{done.stdout}{done.stderr}"
    assert " 0 generated" not in done.stdout
    assert server.is_running()
