"""Files of rows: every fault names file and line; real separators inside strings do not cut."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.core.errors import DataError
from prefkit.formats.rows import read_rows

ROWS = [
    {"prompt": "q\u2028still the prompt", "chosen": "a\x85b", "n": "1"},
    {"prompt": "r", "chosen": "c", "n": "2"},
]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def write(path, rows):
    data: bytes
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    elif name.endswith(".json"):
        data = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    else:
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(rows)
        if name.endswith(".parquet"):
            pq.write_table(table, sink)
        else:
            feather.write_feather(table, sink, compression="uncompressed")
        data = sink.getvalue().to_pybytes()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet", ".arrow"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, suffix, packed):
    path = tmp_path / f"rows{suffix}{packed}"
    write(path, ROWS)
    assert list(read_rows(path).values) == ROWS


@given(values=st.lists(TEXT, min_size=1, max_size=5))
def test_jsonl_keeps_any_text(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    write(path, [{"x": value} for value in values])
    rows = read_rows(path)
    assert [row["x"] for row in rows.values] == values
    assert rows.lines == list(range(1, len(values) + 1))


def test_csv_fields_may_hold_newlines_and_long_answers(tmp_path):
    path = tmp_path / "rows.csv"
    long = "x" * 300_000
    path.write_text(f'prompt,chosen\n"two\nlines",{long}\nq,a\n', newline="")
    rows = read_rows(path)
    assert list(rows.values) == [
        {"prompt": "two\nlines", "chosen": long},
        {"prompt": "q", "chosen": "a"},
    ]
    assert rows.place(1).endswith("rows.csv:4")


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbfprompt,chosen\nq,a\n")
    assert read_rows(path).columns == ["prompt", "chosen"]


def test_json_named_file_with_one_object_a_line_is_read(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert [row["a"] for row in read_rows(path).values] == [1, 2]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("r.jsonl", b'{"a": 1}\n{"a": \n', r"r\.jsonl:2: not JSON"),
        (
            "r.jsonl",
            b'{"a": 1}\n\n[1, 2]\n',
            r"r\.jsonl:3: expected an object \{\.\.\.\}, found list: \[1, 2\]",
        ),
        ("r.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', r"r\.jsonl:2: not UTF-8: byte 0xff at byte 8"),
        ("r.jsonl", b'{"p": NaN}\n', r"r\.jsonl:1: not JSON: NaN is not a JSON value"),
        ("r.jsonl", b"", r"r\.jsonl: the file has no rows"),
        ("r.json", b'[{"a": 1},\n {"a" 2}]', r"r\.json:2: not JSON"),
        ("r.json", b'[{"a": 1}, 7]', r"r\.json: row 2: expected an object"),
        ("r.csv", b"a,b\n1,2\n1,2,3\n", r"r\.csv:3: 3 fields, but the header has 2"),
        ("r.csv", b"a,a\n1,2\n", r"r\.csv:1: column 'a' stands twice"),
        ("r.csv", b"a,b\n", r"r\.csv: the file has no rows"),
        ("r.csv", b'a,b\n1,"x\n', r"r\.csv:2: not CSV"),
        ("r.parquet", b"no parquet", r"r\.parquet: not a parquet file"),
        ("r.arrow", b"no arrow", r"r\.arrow: not a arrow file"),
        ("r.jsonl.gz", b"no gzip", r"r\.jsonl\.gz: cannot be read"),
        ("r.docx", b"?", r"r\.docx: unknown kind of file '\.docx'"),
    ],
)
def test_a_fault_names_the_file_and_the_line(tmp_path, name, data, expected):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(DataError, match=expected) as caught:
        read_rows(path)
    assert caught.value.hint


def test_json_that_nests_too_deeply_and_a_number_that_is_none_have_a_mend(tmp_path):
    path = tmp_path / "r.json"
    for data in ('[{"p": Infinity}]', "[" * 100_000):
        path.write_text(data)
        with pytest.raises(DataError, match=r"r\.json:1: not JSON") as caught:
            read_rows(path)
        assert "write null where there is no value" in caught.value.hint


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.jsonl: no such file"):
        read_rows(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="a folder"):
        read_rows(tmp_path)
