"""Laws of curation over any recipe, each filter by hand, and a newcomer's filter."""

from __future__ import annotations

import importlib
from pathlib import Path

import datasets
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import real_data

import prefkit
from prefkit.core.errors import ConfigError, DataError
from prefkit.core.files import read_json
from prefkit.core.records import Example, Message, Part, Prompt, text_of
from prefkit.curation import (
    FILTERS,
    SHIPPED,
    Band,
    Recipe,
    Scores,
    Stage,
    curate,
    read_recipe,
    row_filter,
    set_filter,
)
from prefkit.curation.columns import columns_of
from prefkit.formats.schema import from_table, to_table
from prefkit.formats.tables import read_table


def example(prompt="q", chosen="good", rejected="bad", p=1.0, **fields) -> Example:
    return Example.make(
        Prompt.make([Message.of("user", prompt)]),
        [Message.of("assistant", chosen)],
        [Message.of("assistant", rejected)],
        p=p,
        **fields,
    )[0]


def table(*examples: Example) -> pa.Table:
    return to_table(examples, Example)


WORDS = st.sampled_from(["", " ", "a", "A ", "bb", "a\u00a0b", "ﬁ", "x" * 40])
EXAMPLES = st.builds(
    example,
    st.sampled_from(["q", "r", "s"]),
    WORDS,
    WORDS,
    st.sampled_from([0.5, 0.505, 0.7, 1.0]),
    weight=st.sampled_from([0.5, 1.0]),
)
ENDS = st.one_of(st.none(), st.floats(-1, 12, allow_nan=False))


@st.composite
def recipes(draw) -> Recipe:
    """Any recipe over the registered filters, in any order, with any bands."""
    stages = {}
    for name in draw(st.permutations(FILTERS.names())):
        ends = sorted(draw(st.lists(st.floats(-1, 12), min_size=2, max_size=2)))
        band = {k: v for k, v in zip(("min", "max"), ends, strict=True) if draw(st.booleans())}
        missing = draw(st.sampled_from(["keep", "drop"]))
        stages[name] = Stage(**band, missing=missing, enabled=draw(st.booleans()))
    try:
        return Recipe(name="any", stages=stages)
    except ValueError:  # a drawn end against the filter's default end: an empty band is refused
        return Recipe(name="any", stages={})


@given(examples=st.lists(EXAMPLES, max_size=12), recipe=recipes())
def test_kept_and_dropped_are_the_input_and_every_row_has_one_verdict(examples, recipe):
    given_table = table(*examples)
    result = curate(given_table, recipe)
    verdicts = result.ledger.to_pylist()
    assert result.kept.num_rows + result.dropped.num_rows == len(examples) == len(verdicts)
    assert len({v["row_id"] for v in verdicts}) == len(examples)
    keeps = [v["action"] == "keep" for v in verdicts]
    ids = given_table.column("id").to_pylist()
    assert result.kept.column("id").to_pylist() == [i for i, k in zip(ids, keeps, strict=True) if k]
    assert result.dropped.column("id").to_pylist() == [
        i for i, k in zip(ids, keeps, strict=True) if not k
    ]
    assert sum(result.dropped_by_reason().values()) == result.dropped.num_rows
    assert all(
        v["stage"] == "recipe" if k else v["stage"] in recipe.stages
        for v, k in zip(verdicts, keeps, strict=True)
    )


@given(examples=st.lists(EXAMPLES, max_size=12), recipe=recipes())
def test_a_dropped_row_fails_its_stage_and_passes_those_before(examples, recipe):
    result = curate(table(*examples), recipe)
    scores = {row["row_id"]: row for row in result.scores.to_pylist()}
    bands = {name: (band, stage.missing) for name, stage, _, band in recipe.running()}
    order = list(bands)
    for verdict in result.ledger.to_pylist():
        row = scores[verdict["row_id"]]
        passed = order if verdict["action"] == "keep" else order[: order.index(verdict["stage"])]
        assert all(stays(row[name], *bands[name]) for name in passed)
        if verdict["action"] == "drop":
            assert not stays(row[verdict["stage"]], *bands[verdict["stage"]])
            assert verdict["score"] == row[verdict["stage"]]


def stays(score, band: Band, missing: str) -> bool:
    if score is None:
        return missing == "keep"
    return (band.min is None or score >= band.min) and (band.max is None or score <= band.max)


@given(examples=st.lists(EXAMPLES, max_size=12))
def test_a_set_kept_by_quick_is_kept_whole_the_second_time(examples):
    once = curate(table(*examples), "quick")
    again = curate(once.kept, "quick")
    assert again.kept == once.kept


@given(examples=st.lists(EXAMPLES, max_size=12), data=st.data())
def test_row_order_does_not_change_which_texts_survive(examples, data):
    shuffled = data.draw(st.permutations(examples))
    kept = [
        sorted((e.id, e.p) for e in from_table(curate(table(*given), "quick").kept, Example))
        for given in (examples, shuffled)
    ]
    assert kept[0] == kept[1]


@given(examples=st.lists(EXAMPLES, max_size=12))
def test_none_keeps_everything(examples):
    given_table = table(*examples)
    assert curate(given_table, "none").kept == given_table


@pytest.mark.parametrize("name", [n for n, f in FILTERS if f.kind == "row"])
@given(examples=st.lists(EXAMPLES, min_size=1, max_size=8))
def test_a_row_filter_scores_each_row_alone(name, examples):
    entry = FILTERS.get(name)
    together = entry.function(columns_of(table(*examples))).to_list()
    alone = [entry.function(columns_of(table(e))).to_list()[0] for e in examples]
    assert together == alone


@pytest.mark.parametrize(
    ("made", "stage"),
    [
        (example(chosen=" \n"), "empty_answer"),
        (example(rejected=""), "empty_answer"),
        (example(chosen="Same  text", rejected="same text"), "identical_pair"),
        (example(chosen="ﬁne", rejected="fine"), "identical_pair"),
        (example(p=0.5), "tie"),
        (example(chosen="x" * 31, rejected="abc"), "length_ratio"),
        (example(chosen="abc", rejected="x" * 31), "length_ratio"),
        (example(), "recipe"),
        (example(chosen="x" * 30, rejected="abc"), "recipe"),
    ],
)
def test_quick_drops_what_it_says(made, stage):
    assert curate(table(made), "quick").ledger.column("stage").to_pylist() == [stage]


def test_of_equal_pairs_the_surest_stays_and_is_named():
    rows = [example(p=0.7), example(p=0.9), example(p=0.9, weight=2.0), example("other")]
    result = curate(table(*rows), "quick")
    assert [(e.p, e.weight) for e in from_table(result.kept, Example)] == [(0.9, 2.0), (1.0, 1.0)]
    ids = result.ledger.column("row_id").to_pylist()
    assert result.dropped.column("matched_row").to_pylist() == [ids[2], ids[2]]
    assert ids[:3] == [rows[0].id, f"{rows[0].id}#2", f"{rows[0].id}#3"]


@pytest.mark.parametrize(
    ("by", "n_kept"), [("pair", 4), ("unordered_pair", 3), ("prompt_chosen", 3), ("prompt", 2)]
)
def test_duplicates_by_each_key(by, n_kept):
    rows = [
        example("q", "a1", "b1"),
        example("q", "b1", "a1"),
        example("q", "a1", "c1"),
        example("r", "a1", "b1"),
        example("r", "a1", "b1"),
    ]
    recipe = Recipe(name="dup", stages={"exact_duplicate": Stage(params={"by": by})})
    assert curate(table(*rows), recipe).kept.num_rows == n_kept


def test_a_copy_stays_when_the_other_copy_fell_before():
    """The surest copy is a tie-breaker only among rows that still stand."""
    recipe = read_recipe("quick", ["tie.max=0.3", "tie.min=null"])
    result = curate(table(example(p=1.0), example(p=0.7)), recipe)
    assert [e.p for e in from_table(result.kept, Example)] == [0.7]


def test_texts_are_what_the_records_say():
    rows = [
        Example.make(
            Prompt.make(
                [Message.of("system", "s"), Message("user", (Part("text", "a"), Part("text", "b")))]
            ),
            [Message("assistant", ())],
            [Message.of("assistant", "x"), Message.of("user", "y"), Message.of("assistant", "")],
        )[0],
        example(),
    ]
    whole = table(*rows, *rows)
    for part in (whole, whole.slice(1, 2), pa.concat_tables([whole.slice(2), whole.slice(0, 1)])):
        columns = columns_of(part)
        for row, made in zip(columns.to_dicts(), from_table(part, Example), strict=True):
            assert row["prompt"] == made.prompt.text
            assert row["chosen"] == text_of(made.chosen)
            assert row["rejected"] == text_of(made.rejected)


def test_a_newcomer_adds_a_filter_in_under_twenty_lines(monkeypatch):
    monkeypatch.setattr(FILTERS, "_entries", dict(FILTERS._entries))

    @row_filter("shouting", unit="share of letters", band=Band(max=0.5))
    def shouting(rows: pl.DataFrame, *, side: str = "chosen") -> pl.Series:
        """Share of an answer's letters that are capitals."""
        text = rows[side]
        return text.str.count_matches("[A-Z]") / text.str.count_matches("[A-Za-z]")

    recipe = Recipe(name="mine", stages={"shouting": Stage()})
    result = curate(
        table(example(chosen="LOUD"), example(chosen="calm"), example(chosen="1")), recipe
    )
    assert result.ledger.column("stage").to_pylist() == ["shouting", "recipe", "recipe"]
    assert result.counts["abstained"] == {"shouting": 1}  # no letters: 0 / 0 is no score
    rejected = Recipe(name="mine", stages={"shouting": Stage(params={"side": "rejected"})})
    assert curate(table(example(rejected="LOUD")), rejected).dropped.num_rows == 1


def test_a_set_filter_sees_only_rows_that_stand(monkeypatch):
    monkeypatch.setattr(FILTERS, "_entries", dict(FILTERS._entries))
    seen = []

    @set_filter("witness", unit="0", band=Band(max=0))
    def witness(rows: pl.DataFrame) -> Scores:
        """Zero for everyone."""
        seen.extend(rows["chosen"].to_list())
        return Scores(pl.zeros(rows.height, eager=True))

    recipe = Recipe(name="w", stages={"empty_answer": Stage(), "witness": Stage()})
    curate(table(example(chosen=""), example()), recipe)
    assert seen == ["good"]


def test_a_filter_that_forgets_rows_is_told_so(monkeypatch):
    monkeypatch.setattr(FILTERS, "_entries", dict(FILTERS._entries))
    row_filter("short", unit="", band=Band())(lambda rows: pl.Series([1.0]))
    with pytest.raises(DataError, match="gave 1 scores for 2 rows"):
        curate(table(example(), example("r")), Recipe(name="s", stages={"short": Stage()}))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_parse_under_their_own_name(name):
    assert read_recipe(name).name == name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lenght_ratio.max=4", "unknown filter 'lenght_ratio'; did you mean 'length_ratio'"),
        ("length_ratio.maxx=4", "did you mean 'max'"),
        ("length_ratio.max=big", "stages.length_ratio.max is 'big'"),
        ("length_ratio.min=20", "min 20 is above max 10"),
        ("exact_duplicate.params.byy=pair", "has no parameter 'byy'; did you mean 'by'"),
        ("exact_duplicate.params.by=3", "by is 3; expected str"),
        ("tie.missing=maybe", "stages.tie.missing is 'maybe'"),
    ],
)
def test_a_faulty_override_names_key_and_value(override, message):
    with pytest.raises(ConfigError) as caught:
        read_recipe("quick", [override])
    assert message in caught.value.message


def test_a_faulty_recipe_names_file_and_line(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nstages:\n  tie:\n    mni: 0.1\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:4: unknown key 'stages\.tie\.mni'"):
        read_recipe(path)
    with pytest.raises(ConfigError, match=r"unknown recipe 'quik'; did you mean 'quick'"):
        read_recipe("quik")


def test_an_end_given_as_null_is_open():
    recipe = read_recipe("quick", ["length_ratio.max=null"])
    made = table(example(chosen="x" * 500, rejected="abc"))
    assert curate(made, recipe).kept.num_rows == 1


def test_why_tells_the_verdict_and_all_scores():
    made = example(chosen="x" * 500, rejected="abc")
    told = curate(table(made), "quick").why(made.id)
    assert (told["stage"], told["reason"], told["threshold"]) == (
        "length_ratio",
        "above",
        "0.1 to 10",
    )
    assert told["scores"]["empty_answer"] == 3
    with pytest.raises(DataError, match="no row"):
        curate(table(made), "quick").why("nobody")


@pytest.mark.parametrize(
    "wrap", [datasets.Dataset.from_list, pd.DataFrame, pl.DataFrame, pa.Table.from_pylist, list]
)
def test_the_kept_rows_come_back_as_they_were_given(wrap):
    rows = [
        {"prompt": "q", "chosen": "", "rejected": "b", "mine": 1},
        {"prompt": "q", "chosen": "a", "rejected": "b", "mine": 2},
    ]
    given_rows = wrap(rows)
    back = prefkit.curate(given_rows).kept_as_given()
    assert type(back) is type(given_rows)
    as_rows = back if isinstance(back, list) else pl.DataFrame(pa.table(_arrow(back))).to_dicts()
    assert as_rows == rows[1:]


def _arrow(data):
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pd.DataFrame):
        return pa.Table.from_pandas(data, preserve_index=False)
    return data.to_arrow() if isinstance(data, pl.DataFrame) else data.with_format("arrow")[:]


def test_what_is_written_can_be_read_again(tmp_path):
    result = curate(table(example(), example(chosen="")), "quick")
    result.write(tmp_path / "out")
    assert read_table(tmp_path / "out" / "examples.parquet", Example) == result.kept
    assert read_table(tmp_path / "out" / "dropped.parquet", Example).num_rows == 1
    said = read_json(tmp_path / "out" / "curation.json")
    assert said["counts"] == result.counts
    again = Recipe.model_validate(said["recipe"])
    assert again.digest == result.recipe.digest


def test_moving_a_band_changes_the_label_and_a_rename_does_not():
    quick = read_recipe("quick")
    assert read_recipe("quick", ["tie.min=0.02"]).digest != quick.digest
    assert quick.model_copy(update={"name": "other"}).digest == quick.digest


def test_real_hh_dirt_is_found():
    result = curate(real_data("formats/hh-rlhf/helpful-base-test.jsonl.gz"))
    dropped = result.dropped_by_reason()
    assert dropped["identical_pair"] >= 1
    assert dropped["empty_answer"] >= 1
    assert result.counts["n_kept"] + result.counts["n_dropped"] == 2354


def test_contributing_shows_a_filter_that_works(monkeypatch):
    path = Path(prefkit.__file__).parents[1] / "CONTRIBUTING.md"
    if not path.is_file() or "@row_filter" not in path.read_text():
        pytest.skip("CONTRIBUTING.md has no filter example yet")
    monkeypatch.setattr(FILTERS, "_entries", dict(FILTERS._entries))
    blocks = path.read_text().split("```python\n")[1:]
    code = next(b.split("```")[0] for b in blocks if "@row_filter" in b)
    before = set(FILTERS.names())
    exec(compile(code, str(path), "exec"), {"__name__": "contributing"})
    (new,) = set(FILTERS.names()) - before
    assert len(code.strip().splitlines()) < 20
    scores = FILTERS.get(new).function(columns_of(table(example(), example("r"))))
    assert len(scores) == 2


def test_importing_prefkit_loads_no_data_library():
    import subprocess
    import sys

    code = (
        "import prefkit, sys\n"
        "heavy = ('polars', 'pyarrow', 'torch', 'datasets')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert importlib.import_module("prefkit").curate is not None


def test_answers_that_differ_in_a_tool_call_or_an_image_are_not_the_same():
    def call(name):
        return [Message("assistant", (), tool_calls=f'[{{"name": "{name}"}}]')]

    def image(path):
        return [Message("assistant", (Part("image", path=path),))]

    prompt = Prompt.make([Message.of("user", "q")])
    examples = [
        Example.make(prompt, call("one"), call("two"))[0],
        Example.make(prompt, call("one"), call("three"))[0],
        Example.make(prompt, image("1.png"), image("2.png"))[0],
    ]
    assert curate(table(*examples), "quick").dropped.num_rows == 0
    same = Example.make(prompt, call("one"), call("one"))[0]
    assert curate(table(same), "quick").dropped_by_reason()["identical_pair"] == 1


@pytest.mark.parametrize("wrap", [pl.LazyFrame, pa.Table.from_pylist])
def test_a_lazy_frame_and_an_empty_remainder_come_back_too(wrap):
    given = wrap([{"prompt": "q", "chosen": "good", "rejected": "bad"}])
    for overrides, n in (((), 1), (("empty_answer.min=1000",), 0)):
        kept = curate(given, "quick", overrides=overrides).kept_as_given()
        assert type(kept) is type(given)
        collected = kept.collect().to_arrow() if isinstance(kept, pl.LazyFrame) else kept
        assert collected.num_rows == n
        assert collected.column_names == ["prompt", "chosen", "rejected"]


def test_a_write_that_fails_half_way_leaves_no_older_curation_json(tmp_path):
    curation = curate(table(example()), "quick")
    curation.write(tmp_path)
    (tmp_path / "ledger.parquet").unlink()
    (tmp_path / "ledger.parquet").mkdir()
    with pytest.raises(DataError, match=r"ledger\.parquet"):
        curation.write(tmp_path)
    assert not (tmp_path / "curation.json").exists()
