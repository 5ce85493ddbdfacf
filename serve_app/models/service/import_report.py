"""What an import found, what it could not find, and how to supply it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from serve_app.features.core.specs import FeatureSpec
from serve_app.models.core.manifest import Manifest
from serve_app.models.service.import_names import is_taken, write_rules
from serve_app.models.service.importing import NO_REFERENCE, REFERENCE_SOURCE
from serve_app.runtime.shown_values import LIMIT, show_line

_SHOWN: Final = 6
"""Inputs that an entry of the report names."""
_FORMS = {"code": "code", "native_code": "native category, as a code", "native_string": "native category, as text"}


def build_report(
    manifest: Manifest,
    document: Mapping[str, Any],
    protections: Mapping[str, str],
    used: Mapping[str, Any],
    lacking: Sequence[str],
    vocabularies: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the report as one JSON object.

    Parameters
    ----------
    manifest : Manifest
        Of the finished package.
    document : mapping
        What came with the model.
    protections : mapping of str to str
        What held while the file was read.
    used : mapping
        What golden rows and reference profile were made from.
    lacking : sequence of str
        Classes that vocabularies lack, when that was allowed.
    vocabularies : mapping of str to sequence of str
        Classes of each category.
    """
    routes = ["/v2", "/invocations"] + (["/predict_purchase"] if manifest.is_purchase else [])
    return {
        "imported_from": manifest.training["imported_from"],
        "task": manifest.task,
        "classes": list(manifest.class_labels),
        "routes": routes,
        "features": [_describe(spec) for spec in manifest.features],
        "golden_rows": used["golden_rows"],
        "reference": used["reference"],
        "sample": used.get("sample"),
        "author_metrics": document.get("metrics"),
        "extra_keys": [
            key for key in document.get("extra_keys") or () if not is_taken(key, manifest.training["notes"])
        ],
        "parent_version": manifest.parent_version,
        "missing": _find_missing(manifest, document, used, vocabularies),
        "notes": [*manifest.training["notes"], *lacking],
        "protections": dict(protections),
        "digest": manifest.digest,
    }


def _describe(spec: FeatureSpec) -> dict[str, Any]:
    what = {"name": spec.name, "kind": spec.kind, "unit": spec.unit, "on_null": spec.on_null, "null": _say_null(spec)}
    if spec.is_native or spec.kind == "categorical":
        what |= {"reaches the model as": _FORMS[spec.form]}
    if spec.kind == "categorical":
        what |= {"on_unseen": _say_unseen(spec)}
    return what


def _say_null(spec: FeatureSpec) -> str:
    """Return what a null becomes."""
    if spec.on_null == "fill":
        return spec.fill if isinstance(spec.fill, str) else f"{spec.fill:g}"
    return {"fill_from": str(spec.fill_from), "nan": "NaN", "reject": "reject"}[spec.on_null]


def _say_unseen(spec: FeatureSpec) -> str:
    if spec.on_unseen == "reject":
        return "reject"
    return "the text, unchanged" if spec.is_string else spec.unseen_class


def _is_loose(spec: FeatureSpec) -> bool:
    """Whether nobody restricted a number in any way."""
    rules = (spec.minimum, spec.maximum, spec.above)
    return (
        spec.kind == "numeric" and not spec.unit and not spec.integer and rules == (None,) * 3 and spec.on_null == "nan"
    )


def _find_missing(
    manifest: Manifest, document: Mapping[str, Any], used: Mapping[str, Any], vocabularies: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    missing = []
    if used[REFERENCE_SOURCE] == NO_REFERENCE:
        missing.append({
            "what": "training statistics: without them drift cannot be measured",
            "how": "import again with --sample FILE, rows as the model was trained on",
        })  # fmt: skip
    metadata = document.get("metadata")
    if not document.get("metrics") and not (isinstance(metadata, Mapping) and metadata.get("metrics")):
        missing.append({
            "what": "metrics: how good the model is was not said",
            "how": "put them into the dict under 'metrics', or measure the model on later rows",
        })  # fmt: skip
    loose = [spec.name for spec in manifest.features if _is_loose(spec)]
    if loose:
        missing.append({
            "what": f"units and bounds of {', '.join(loose[:_SHOWN])}{' and others' if len(loose) > _SHOWN else ''}: "
                    "any number and null is scored",
            "how": "describe them in a schema, --schema FILE, which can be for example:",
            "example": write_rules(loose[:_SHOWN]),
        })  # fmt: skip
    unlisted = [
        spec.name
        for spec in manifest.features
        if spec.is_string and not set(vocabularies[spec.name]) - {spec.unseen_class}
    ]
    if unlisted:
        missing.append({
            "what": f"the classes of {', '.join(unlisted[:_SHOWN])}: the model keeps hashes of them only. Every text "
                    "reaches it unchanged",
            "how": "list them under 'classes' in a schema, or give a sample, to see unseen ones in drift reports",
        })  # fmt: skip
    return missing


def render_report(report: Mapping[str, Any]) -> str:
    """Return the report as text for people."""
    source = report["imported_from"]
    aliases = f" ({', '.join(report['aliases']) or 'no alias'})"
    classes = f" of {', '.join(report['classes'])}" if report["classes"] else ""
    lines = [
        f"imported {report['name']} version {report['version']}{aliases} from {source['file']}",
        f"  sha256 of the file {source['sha256']}; digest of the package {report['digest'][:16]}",
        f"  {source['model_class']}, {report['task']}{classes}, {source['n_trees']} trees",
        f"  {len(report['features'])} inputs; served by {', '.join(report['routes'])}",
        f"  golden rows: {report['golden_rows']}",
        f"  reference profile: {report['reference']}",
    ]
    if report["sample"]:
        sample = report["sample"]
        lines.append(f"  sample: {sample['n_rows']:,} rows, {sample['n_rejected']:,} of them rejected")
        lines += [f"    {detail}" for detail in sample["first_rejected"]]
        if sample["columns_not_there"]:
            lines.append(f"    not there, so null: {', '.join(sample['columns_not_there'])}")
    for spec in report["features"]:
        if "reaches the model as" in spec:
            unseen = f", unseen -> {spec['on_unseen']}" if "on_unseen" in spec else ""
            lines.append(f"  {spec['name']}: {spec['reaches the model as']}{unseen}, null -> {spec['null']}")
    lines += [f"  note: {note}" for note in report["notes"]]
    if report["extra_keys"]:
        lines.append(f"  not used: {', '.join(report['extra_keys'])}")
    for item in report["missing"]:
        lines += [f"  not found: {item['what']}", f"    {item['how']}"]
        lines += [f"    {line}" for line in item.get("example", "").splitlines()]
    refused = {what: state for what, state in report["protections"].items() if state != "in force"}
    lines += [f"  protection not in force while reading: {what}: {state}" for what, state in refused.items()]
    if report["next"]:
        lines.append(report["next"])
    return "\n".join(show_line(line, LIMIT) for line in lines)
