"""``models import`` and ``models export``: in through one careful door, out for code without scorecat."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from catboost import CatBoostClassifier

from serve_app.cli import main
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_NAMES, UNKNOWN_CLASS
from serve_app.models.adapters.package_dir import FILES, MANIFEST, load_package
from serve_app.models.adapters.registry_folder import DirectoryRegistry
from serve_app.models.catboost.scorer import CatBoostScorer
from serve_app.models.untrusted import model_file
from serve_app.models.untrusted.model_trial import try_model
from tests.testing_kit.deployments.deployed import complete_rows, to_batch, train_deployed
from tests.testing_kit.models.kinds import raw_rows, train_original
from tests.testing_kit.models.kinds import to_batch as kind_batch

pytestmark = pytest.mark.unit


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORECAT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def run(home, monkeypatch, capsys):
    """Run a command as a person does; return exit code, stdout, stderr."""

    def call(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["scorecat", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def report(run):
    def call(*words) -> dict:
        code, out, err = run("models", "import", *words, "--json")
        assert code == 0, err
        return json.loads(out)

    return call


@pytest.fixture
def quickly(monkeypatch):
    """Try models in this process: a second saved for each import of a test that is about something else."""

    def try_here(model, path, limits):
        try_model(model)
        return {"resource limits": "in force"}

    monkeypatch.setattr(model_file, "_try_model", try_here)


@pytest.fixture(scope="module")
def deployed():
    return train_deployed()


def load(home: Path, name: str, version: int = 1):
    return load_package(home / "registry" / name / "versions" / str(version), CatBoostScorer.load)


def score(package, batch: pa.RecordBatch) -> np.ndarray:
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(batch)
    assert encoded.errors == ()
    return package.model.predict(encoded.matrix, encoded.strings)


def dump(document: dict, path: Path, way: str) -> Path:
    if way.startswith("pickle"):
        path.write_bytes(pickle.dumps(document, protocol=int(way[-1])))
    else:
        joblib.dump(document, path, compress={"joblib": 0, "zlib": 3, "gzip": "gzip", "lzma": "lzma"}[way])
    return path


@pytest.mark.parametrize(
    ("native", "unknown", "way"),
    [(True, True, "joblib"), (True, False, "zlib"), (False, True, "pickle2"), (False, False, "pickle5")],
)
def test_an_imported_model_scores_as_the_original_on_ten_thousand_rows(
    native, unknown, way, request, home, report, tmp_path
):
    if way != "joblib":
        request.getfixturevalue("quickly")
    deployed = train_deployed(native=native, unknown=unknown, scaler_note={"any": [1, 2.5, None]})
    said = report(dump(deployed.document, tmp_path / "deployed_model.pkl", way))
    assert (said["name"], said["version"], said["aliases"]) == ("purchase", 1, ["champion"])
    assert said["routes"] == ["/v2", "/invocations", "/predict_purchase"]
    assert said["extra_keys"] == ["scaler_note"]
    assert said["author_metrics"] == {"n": 3_000, "roc_auc": 0.75}
    package = load(home, "purchase")
    assert package.manifest.is_purchase
    assert package.golden.num_rows >= 64
    rows = complete_rows(12_500, seed=11)
    if not unknown:  # the original fails on what its encoder never saw; here such a row is rejected
        known = {name: set(encoder.classes_) for name, encoder in deployed.document["label_encoders"].items()}
        seen = rows.brand.isna() | rows.brand.isin(known["brand"])
        seen &= rows.category_code.isin(known["category_code"])
        errors = FeatureEncoder(package.manifest.features, package.vocabularies).encode(to_batch(rows)).errors
        assert [e.row for e in errors] == np.flatnonzero(~seen).tolist()
        assert sum("no __unknown__ among them" in note for note in said["notes"]) == 2
        rows = pd.concat([rows[seen]] * 2)
    rows = rows[:10_000]
    assert len(rows) == 10_000
    np.testing.assert_allclose(score(package, to_batch(rows)), deployed.scores(rows), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(("task", "suffix"), [("binary", "cbm"), ("multiclass", "json"), ("regression", "cbm")])
def test_a_bare_model_scores_as_the_original_on_ten_thousand_rows(task, suffix, home, report, tmp_path):
    original = train_original(task, "native_string", "mixed")
    path = tmp_path / f"model.{suffix}"
    original.model.save_model(str(path), format=suffix)
    said = report(path, "--name", "pets", "--schema", write_schema(tmp_path))
    classes = {"binary": ["no", "yes"], "multiclass": ["low", "mid", "top"], "regression": []}[task]
    assert (said["task"], said["classes"], said["routes"]) == (task, classes, ["/v2", "/invocations"])
    package = load(home, "pets")
    assert [f.unit for f in package.manifest.features] == ["", "kg", "", "cm"]
    rows = raw_rows(10_000, seed=12)
    np.testing.assert_allclose(score(package, kind_batch(rows)), original.scores(rows), rtol=0, atol=1e-12)


def write_schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.yaml"
    path.write_text(
        "features:\n"
        "- {name: weight, unit: kg}\n"
        "- {name: height, unit: cm, minimum: 0, integer: true, on_null: reject}\n"
        "- {name: city, on_null: fill, fill: bonn}\n"
    )
    return path


@pytest.mark.usefixtures("quickly")
def test_a_sample_makes_the_reference_profile_and_golden_rows(home, report, tmp_path):
    original = train_original("multiclass", "native_string")
    original.model.save_model(str(tmp_path / "m.cbm"))
    rows = raw_rows(2_000, seed=13)
    rows.loc[5, "height"] = -1
    pq.write_table(pa.Table.from_pandas(rows.assign(label=1)), tmp_path / "rows.parquet")
    said = report(
        tmp_path / "m.cbm", "--name", "pets", "--schema", write_schema(tmp_path), "--sample", tmp_path / "rows.parquet"
    )
    assert said["sample"]["n_rows"] == 2_000
    assert said["sample"]["n_rejected"] == 1
    assert said["sample"]["first_rejected"] == ["row 5: height must be a whole number of at least 0, got -1"]
    assert said["reference"] == "1999 rows of rows.parquet"
    assert "training statistics" not in str(said["missing"])
    package = load(home, "pets")
    assert package.golden.num_rows > 64 + 90
    profile = package.reference.to_pandas()
    assert {"score.low", "score.mid", "score.top"} <= set(profile.feature)
    assert profile[(profile.feature == "colour") & (profile.label == "teal")]["count"].iloc[0] > 300
    assert package.vocabularies["colour"] == ["black", "red", "teal", "white", UNKNOWN_CLASS]
    assert package.manifest.training["sample"]["n_rejected"] == 1


@pytest.mark.usefixtures("quickly")
def test_a_csv_sample_keeps_labels_as_text(home, report, tmp_path):
    x = pd.DataFrame({"code": [f"0{i % 5}" for i in range(300)], "n": np.arange(300.0)})
    model = CatBoostClassifier(iterations=5, verbose=0, allow_writing_files=False)
    model.fit(x, x.code == "03", cat_features=["code"]).save_model(str(tmp_path / "m.cbm"))
    x.to_csv(tmp_path / "rows.csv", index=False)
    report(tmp_path / "m.cbm", "--name", "codes", "--sample", tmp_path / "rows.csv")
    package = load(home, "codes")
    assert package.vocabularies["code"] == ["00", "01", "02", "03", "04", UNKNOWN_CLASS]
    assert not package.reference.to_pandas().empty


def test_without_a_sample_the_report_says_what_is_missing_and_how_to_supply_it(home, run, tmp_path, deployed):
    document = {k: v for k, v in deployed.document.items() if k not in {"metrics", "model_metadata"}}
    path = dump(document, tmp_path / "deployed_model.pkl", "gzip")
    code, out, _ = run("models", "import", path)
    assert code == 0
    assert "imported purchase version 1 (champion) from deployed_model.pkl" in out
    for words in ("reference profile: absent", "not found: training statistics", "--sample FILE", "not found: metrics",
                  "unseen -> __unknown__, null -> ", "sha256 of the file", "digest of the package"):  # fmt: skip
        assert words in out
    assert "null -> fill" not in out
    package = load(home, "purchase")
    assert package.reference.num_rows == 0
    assert package.manifest.training["reference"] == "absent"
    assert package.manifest.training["imported_from"]["kind"] == "pickle"
    code, out, _ = run("models", "show", "purchase")
    assert code == 0
    code, out, _ = run("models", "verify", "purchase")
    assert "golden rows reproduced" in out


@pytest.mark.usefixtures("quickly")
def test_the_first_version_becomes_champion_and_the_next_only_what_it_is_told(home, report, tmp_path, deployed):
    path = dump(deployed.document, tmp_path / "deployed_model.pkl", "joblib")
    report(path, "--name", "shop")
    said = report(
        path, "--name", "shop", "--alias", "challenger", "--threshold-medium", "0.2", "--threshold-high", "0.3"
    )
    assert (said["version"], said["aliases"]) == (2, ["challenger"])
    assert said["next"].startswith("shop@champion is still version 1: `scorecat models alias shop@2 champion`")
    aliases = DirectoryRegistry(home / "registry").aliases("shop").versions
    assert aliases == {"champion": 1, "challenger": 2}
    manifest = load(home, "shop", 2).manifest
    assert (manifest.thresholds.medium, manifest.thresholds.high) == (0.2, 0.3)


@pytest.mark.usefixtures("quickly")
def test_an_exported_pickle_is_what_ordinary_code_can_use(home, run, report, tmp_path, deployed):
    report(dump(deployed.document, tmp_path / "deployed_model.pkl", "joblib"))
    target = tmp_path / "again.pkl"
    code, out, _ = run("models", "export", "purchase", target, "--json")
    assert code == 0
    d = joblib.load(target)
    assert json.loads(out)["keys"] == list(d)
    rows = complete_rows(10_000, seed=14)
    frame = rows.copy()
    for name, encoder in d["label_encoders"].items():
        labels = frame[name].fillna({"brand": "unknown", "category_code": "other"}[name])
        frame[name] = encoder.transform(labels.where(labels.isin(encoder.classes_), UNKNOWN_CLASS))
    found = d["model"].predict_proba(frame[d["feature_names"]])[:, 1]
    np.testing.assert_allclose(found, deployed.scores(rows), rtol=0, atol=1e-12)
    assert list(d["label_encoders"]["brand"].inverse_transform([0, 4])) == ["apple", UNKNOWN_CLASS]
    assert d["metrics"] == {"n": 3_000, "roc_auc": 0.75}
    said = report(target)
    assert (said["version"], said["parent_version"]) == (2, 1)
    np.testing.assert_allclose(score(load(home, "purchase", 2), to_batch(rows)), found, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("quickly")
def test_an_exported_cbm_is_the_package_s_model(home, run, report, tmp_path, deployed):
    report(dump(deployed.document, tmp_path / "deployed_model.pkl", "joblib"))
    for suffix in ("cbm", "json"):
        assert run("models", "export", "purchase@1", tmp_path / f"m.{suffix}")[0] == 0
    again = CatBoostClassifier().load_model(str(tmp_path / "m.cbm"))
    pool = deployed.document["model"]
    assert again.get_leaf_values().tolist() == pool.get_leaf_values().tolist()
    code, _, err = run("models", "export", "purchase", tmp_path / "m.cbm")
    assert (code, "exists" in err) == (2, True)
    assert run("models", "export", "purchase", tmp_path / "m.cbm", "--force")[0] == 0
    for target, words in ((tmp_path / "m.onnx", "must end in"), (tmp_path / "no" / "m.cbm", "cannot be written")):
        code, _, err = run("models", "export", "purchase", target)
        assert code == 2
        assert words in err
        assert not target.exists()


@pytest.mark.usefixtures("quickly")
def test_a_pickle_of_an_older_scikit_learn_is_read(home, report, tmp_path, deployed):
    data = pickle.dumps(deployed.document, protocol=2)
    assert b"csklearn.preprocessing._label\n" in data
    old = data.replace(b"csklearn.preprocessing._label\n", b"csklearn.preprocessing.label\n")
    old = old.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    (tmp_path / "old.pkl").write_bytes(old)
    report(tmp_path / "old.pkl")
    assert load(home, "purchase").vocabularies["brand"][-1] == UNKNOWN_CLASS


@pytest.mark.usefixtures("quickly")
def test_a_pickled_model_without_a_dict_is_read(home, report, tmp_path):
    original = train_original("regression", "code")
    joblib.dump(original.model, tmp_path / "m.joblib")
    said = report(tmp_path / "m.joblib", "--name", "bare")
    assert said["imported_from"]["model_class"] == "CatBoostRegressor"
    assert load(home, "bare").manifest.task == "regression"


@pytest.mark.usefixtures("quickly")
def test_verify_finds_any_flipped_byte(home, run, report, tmp_path):
    deployed = train_deployed(n_trees=3)
    report(dump(deployed.document, tmp_path / "deployed_model.pkl", "joblib"))
    folder = home / "registry" / "purchase" / "versions" / "1"
    registered = {name: (folder / name).read_bytes() for name in (*FILES, MANIFEST)}
    from serve_app.errors import PackageError
    from serve_app.models.adapters.proof import prove_package

    n_flipped = 0
    for name, data in registered.items():
        step = 1 if len(data) < 600 else len(data) // 100
        for at in range(0, len(data), step):
            broken = bytearray(data)
            broken[at] ^= 1 << (at % 8)
            (folder / name).write_bytes(broken)
            with pytest.raises(PackageError):
                prove_package(folder)
            n_flipped += 1
        (folder / name).write_bytes(data)
    assert n_flipped > 400
    for name, data in registered.items():
        for at in (0, len(data) // 2, len(data) - 1):
            broken = bytearray(data)
            broken[at] ^= 1 << (at % 8)
            (folder / name).write_bytes(broken)
            code, _, said = run("models", "verify", "purchase")
            assert (code, name in said) == (1, True), said
        (folder / name).write_bytes(data)
    assert run("models", "verify", "purchase")[0] == 0


@pytest.mark.usefixtures("quickly")
def test_a_bare_file_of_a_model_that_learned_codes_is_refused_until_a_schema_says_so(home, run, report, tmp_path):
    deployed = train_deployed()
    path = tmp_path / "m.cbm"
    deployed.document["model"].save_model(str(path))
    classes = {name: list(map(str, e.classes_)) for name, e in deployed.document["label_encoders"].items()}
    fills = {"brand": "unknown", "category_code": "other"}

    def schema(**extra) -> Path:
        entries = [{"name": name, "classes": listed, "fill": fills[name], **extra} for name, listed in classes.items()]
        (tmp_path / "schema.json").write_text(json.dumps({"features": entries}))
        return tmp_path / "schema.json"

    for words in ((), ("--schema", schema())):
        code, _, said = run("models", "import", path, *words)
        assert (code, "form: native_code" in said) == (2, True), said
    assert DirectoryRegistry(home / "registry").names() == []
    said = report(path, "--schema", schema(form="native_code"))
    assert said["name"] == "purchase"
    assert not any("the classes of" in one["what"] for one in said["missing"])
    package = load(home, "purchase")
    rows = complete_rows(2_000, seed=21)
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(to_batch(rows))
    np.testing.assert_array_equal(package.model.predict(*encoded.for_model), deployed.scores(rows))


def written(data: bytes):
    def write(folder: Path) -> Path:
        (folder / "model.pkl").write_bytes(data)
        return folder / "model.pkl"

    return write


def cut(suffix: str, share: float = 0.5):
    def write(folder: Path) -> Path:
        original = train_original("binary", "code", n_trees=5)
        path = folder / f"m.{suffix}"
        original.model.save_model(str(path), format=suffix)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return write


def cut_pickle(folder: Path) -> Path:
    path = dump(train_deployed(n_trees=3).document, folder / "m.pkl", "joblib")
    path.write_bytes(path.read_bytes()[:-2_000])
    return path


def with_text(folder: Path) -> Path:
    frame = pd.DataFrame({"x": np.arange(60.0), "review": [f"good thing {i % 7}" for i in range(60)]})
    model = CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False)
    model.fit(frame, np.arange(60) % 2, text_features=["review"]).save_model(str(folder / "m.cbm"))
    return folder / "m.cbm"


def lacking(form: str):
    def write(folder: Path) -> Path:
        deployed = train_deployed(native=form == "native")
        encoder = deployed.document["label_encoders"]["brand"]
        encoder.classes_ = encoder.classes_[-1:]
        return dump(deployed.document, folder / "m.pkl", "joblib")

    return write


def renamed(folder: Path) -> Path:
    document = dict(train_deployed(n_trees=3).document)
    document["feature_names"] = ["cost", *PURCHASE_NAMES[1:]]
    return dump(document, folder / "m.pkl", "joblib")


def pipe(folder):
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


BAD = {
    "nothing there": (lambda folder: folder / "nowhere.pkl", "cannot be read: No such file"),
    "a folder": (lambda folder: folder, "is no regular file"),
    "a pipe": (pipe, "is no regular file"),
    "a device": (lambda _: Path("/dev/zero"), "is no regular file"),
    "empty": (written(b""), "is empty"),
    "text": (written(b"hello"), "is neither a pickle nor a CatBoost model; it looks like text"),
    "another dict": (written(pickle.dumps({"a": 1})), "'model' is missing, not a CatBoost model; the dict has: a"),
    "another value": (written(pickle.dumps([1, 2])), "the file holds a list"),
    "not a model": (written(pickle.dumps({"model": 7})), "'model' is a int, not a CatBoost model"),
    "never trained": (written(pickle.dumps({"model": CatBoostClassifier()})), "was never trained"),
    "encoders that are none": (
        written(pickle.dumps({"model": CatBoostClassifier(), "label_encoders": {"a": 1}})),
        "label_encoders['a'] is a int",
    ),
    "a cbm cut short": (cut("cbm"), "is no usable CatBoost model"),
    "a json cut short": (cut("json"), "is no usable CatBoost model"),
    "a pickle cut short": (cut_pickle, "cut short"),
    "a text feature": (with_text, "review: text features cannot be served"),
    "a vocabulary too short": (lacking("code"), "brand: the model tells codes up to"),
    "a vocabulary that lacks a category": (lacking("native"), "brand: the model knows"),
    "other names": (renamed, "only feature_names has cost; only the model has price"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_a_clear_error_and_registers_nothing(name, request, run, home, tmp_path):
    if "cut short" not in name:
        request.getfixturevalue("quickly")
    write, words = BAD[name]
    folder = tmp_path / "input"
    folder.mkdir()
    code, out, err = run("models", "import", write(folder), "--name", "m", "--json")
    assert code == 2, err
    assert words in json.loads(out)["error"]["detail"]
    assert "Traceback" not in err
    assert DirectoryRegistry(home / "registry").names() == []


@pytest.mark.usefixtures("quickly")
def test_a_vocabulary_that_lacks_classes_can_be_imported_when_told_to(home, report, tmp_path):
    path = lacking("native")(tmp_path)
    said = report(path, "--allow", "missing-classes")
    assert any("brand: the model knows" in note for note in said["notes"])


def test_wrong_words_are_refused_before_any_work(run, home, tmp_path):
    path = written(b"x")(tmp_path)
    for words, said in (
        (["--name", "No Good"], "is no model name"),
        (["--allow", "everything"], "there is no check everything"),
        (["--threshold-medium", "0.9"], "thresholds must satisfy"),
        (["--schema", tmp_path / "no.yaml"], "no.yaml cannot be read"),
        (["--schema", write_text(tmp_path, "a: [")], "is not YAML or JSON"),
        (["--schema", write_text(tmp_path, "features: 7")], "/features: must be a list"),
    ):
        code, _, err = run("models", "import", path, *words)
        assert code == 2
        assert said in err
    assert not (home / "registry").exists()


def test_a_parquet_file_is_called_what_it_is(run, home, tmp_path):
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "rows.parquet")
    code, _, err = run("models", "import", tmp_path / "rows.parquet")
    assert code == 2
    assert "is a Parquet file, which is no model: rows are given with --sample" in err


@pytest.mark.usefixtures("quickly")
def test_the_report_says_what_the_schema_says(run, report, home, tmp_path):
    original = train_original("binary", "native_string", "mixed")
    path = tmp_path / "model.cbm"
    original.model.save_model(str(path))
    name = next(c for c in report(path, "--name", "pets")["features"] if c["kind"] == "numeric")["name"]
    assert any(f"{name}" in m["what"] for m in report(path, "--name", "pets")["missing"] if "bounds" in m["what"])
    schema = tmp_path / "one.yaml"
    schema.write_text(f"features: [{{name: {name}, integer: true, fill: 4}}]")
    said = report(path, "--name", "pets", "--schema", schema)
    assert next(f for f in said["features"] if f["name"] == name)["null"] == "4"
    assert not any(f"{name}," in m["what"] or f"{name}:" in m["what"] for m in said["missing"] if "bounds" in m["what"])
    texts = [f for f in said["features"] if f["kind"] == "categorical"]
    assert texts
    assert all(f["on_unseen"] == "the text, unchanged" for f in texts)
    schema.write_text(f"features: [{{name: {name}x, unit: kg}}]")
    code, _, err = run("models", "import", path, "--name", "pets", "--schema", schema)
    assert code == 2
    assert f"did you mean {name}? Its inputs: " in err


def write_text(tmp_path: Path, text: str) -> Path:
    path = tmp_path / f"schema{abs(hash(text))}.yaml"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("quickly")
def test_a_registry_that_cannot_be_written_to_is_said(run, monkeypatch, tmp_path, deployed):
    monkeypatch.setenv("SCORECAT_REGISTRY", "/proc/self/registry")  # nobody can write there
    path = dump(deployed.document, tmp_path / "m.pkl", "joblib")
    code, _, err = run("models", "import", path)
    assert code == 2
    assert "cannot publish into" in err


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.write_bytes(b"PAR1 not"), "is no readable Parquet"),
        (lambda p: pq.write_table(pa.table({"a": [1]}), p), "has no column named like an input"),
        (lambda p: pq.write_table(pa.table({"price": pa.array([], pa.float64())}), p), "has no rows"),
        (
            lambda p: pq.write_table(pa.table({"price": [-1.0]}), p),
            "has no row that the model can score: price must be",
        ),
        (lambda p: None, "is not there"),
    ],
)
@pytest.mark.usefixtures("quickly")
def test_a_sample_that_cannot_be_used_is_said(write, words, run, home, tmp_path, deployed):
    path = dump(deployed.document, tmp_path / "m.pkl", "joblib")
    sample = tmp_path / "rows.parquet"
    write(sample)
    code, _, err = run("models", "import", path, "--sample", sample)
    assert code == 2
    assert words in err
    assert DirectoryRegistry(home / "registry").names() == []


@pytest.mark.usefixtures("quickly")
def test_names_come_from_the_schema_or_the_file_or_must_be_given(home, run, report, tmp_path):
    original = train_original("binary", "code", n_trees=3)
    original.model.save_model(str(tmp_path / "m.cbm"))
    code, _, err = run("models", "import", tmp_path / "m.cbm")
    assert (code, "give it a name with --name" in err) == (2, True)
    assert report(tmp_path / "m.cbm", "--schema", write_text(tmp_path, '{"name": "pets"}'))["name"] == "pets"
    document = {"model": original.model, "model_metadata": {"model_name": "cats"}}
    assert report(dump(document, tmp_path / "m.pkl", "joblib"))["name"] == "cats"


def test_an_alias_that_is_none_is_refused_before_anything_is_published(run, home, tmp_path):
    code, out, _ = run("models", "import", tmp_path / "any.pkl", "--alias", "../../x", "--json")
    assert code == 2
    assert "is no alias" in json.loads(out)["error"]["detail"]
    assert not (home / "registry").exists()
