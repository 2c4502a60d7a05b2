"""kubectl's JSONPath dialect."""

from __future__ import annotations

from typing import Any

import click
import pytest

from sandboxer.cli import jsonpath

POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "shop", "tier-1": "x"}},
    "spec": {"ports": [{"name": "http", "port": 80}, {"name": "db", "port": 5432}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}], "ready": True},
}
LIST = {"kind": "List", "items": [POD, {**POD, "metadata": {"name": "api", "labels": {}}}]}


def rendered(template: str, document: Any = POD) -> str:
    return jsonpath.render(jsonpath.parse_template(template), document)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("{.metadata.name}", "web", id="field"),
        pytest.param("{$.metadata.name}", "web", id="root"),
        pytest.param("{.spec.ports[*].port}", "80 5432", id="wildcard"),
        pytest.param("{.spec.ports[0].name}", "http", id="index"),
        pytest.param("{.spec.ports[-1].name}", "db", id="negative-index"),
        pytest.param("{.spec.ports[0:1].name}", "http", id="slice"),
        pytest.param("{..port}", "80 5432", id="descent"),
        pytest.param(r"{.metadata.labels.app\.kubernetes\.io/name}", "shop", id="escaped-dots"),
        pytest.param("{.metadata.labels['app.kubernetes.io/name']}", "shop", id="quoted-key"),
        pytest.param("{.metadata.labels.tier-1}", "x", id="dash"),
        pytest.param('{.spec.ports[?(@.name=="db")].port}', "5432", id="filter"),
        pytest.param("{.spec.ports[?(@.port>100)].name}", "db", id="filter-number"),
        pytest.param('{.status.conditions[?(@.type=="Ready")].status}', "True", id="condition"),
        pytest.param("{.status.ready}", "true", id="boolean"),
        pytest.param("{.spec.ports[0]}", '{"name":"http","port":80}', id="object"),
        pytest.param("{.nothing.here}", "", id="absent"),
        pytest.param('{.metadata.name}{"\\n"}', "web\n", id="quoted-text"),
        pytest.param("name={.metadata.name}!", "name=web!", id="text-around"),
        pytest.param(".metadata.name", "web", id="no-braces"),
    ],
)
def test_template_prints_what_kubectl_prints(template: str, expected: str) -> None:
    """A template prints the values it names, as kubectl formats them."""
    assert rendered(template) == expected


def test_range_repeats_its_body() -> None:
    """`{range}` prints its body once per value."""
    template = '{range .items[*]}{.metadata.name}{"\\t"}{.spec.ports[0].port}{"\\n"}{end}'

    assert rendered(template, LIST) == "web\t80\napi\t80\n"


@pytest.mark.parametrize(
    "template",
    ["{.metadata.name", "{range .items[*]}x", "{end}", "{.a[}", "{.a[?(@.b==]}", "{.a[b c]}"],
)
def test_broken_template_is_refused(template: str) -> None:
    """A template that cannot be read is the user's mistake and says so."""
    with pytest.raises(click.UsageError):
        rendered(template)
