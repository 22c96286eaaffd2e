"""render: report.html from what regcli.json holds and the pictures."""

import base64
import hashlib
import platform
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import torch

from regcli.report import figures, tables
from regcli.report.markup import Markup, element, joined
from regcli.report.pictures import Pictures

_CALM = "Nothing that was measured speaks against it. Look at the pictures all the same."


def render(report: dict[str, Any], pictures: Pictures) -> str:
    """The page.

    Args:
        report: What regcli.json holds.
        pictures: Of the same registration.
    """
    style = _asset("page.css") + figures.columns(pictures)
    script = _asset("page.js")
    moving, fixed = (Path(report[side]["path"]).name for side in ("moving", "fixed"))
    deformable = pictures.histogram is not None
    parts = {
        "title": joined([f"{moving} → {fixed}"]),
        # nothing but what stands here may act or be loaded, whatever texts users bring in
        "policy": joined(
            [
                "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
                f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
            ]
        ),
        "style": style,
        "script": script,
        "verdict": _verdict(report),
        "orientation": figures.orientation(report, pictures),
        "choices": figures.choices(pictures),
        "viewer": figures.viewer(pictures),
        "checkerboard": figures.checkerboard(pictures),
        "edges": figures.edges(pictures),
        "deformation": figures.deformation(report, pictures) if deformable else "",
        "numbers": tables.numbers(report),
        "convergence": figures.convergence(report),
        "provenance": tables.provenance(report, _versions(report)),
    }
    return Template(_asset("page.html")).substitute(parts)


def _verdict(report: dict[str, Any]) -> Markup:
    verdict = report["verdict"]
    reasons = verdict["reasons"] or [_CALM]
    status = verdict["status"]
    badge = element("strong", {"class": f"badge {status.lower()}"}, status)
    items = [element("li", None, reason) for reason in reasons]
    parts = [element("p", None, badge, " ", tables.summary(report)), element("ul", None, *items)]
    if report["warnings"]:
        parts.append(element("h3", None, "Warnings"))
        parts.append(element("ul", None, *(element("li", None, w) for w in report["warnings"])))
    return joined(parts)


def _versions(report: dict[str, Any]) -> str:
    python = platform.python_version()
    return f"regcli {report['version']}, Python {python}, torch {torch.__version__}"


def _asset(name: str) -> str:
    return files("regcli.report").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")
