"""The page runner itself: it writes files, runs in order, and a fault names page and line."""

from __future__ import annotations

import pytest
from doc_pages import blocks_of, run_page

PAGE = """# A page

<!-- file: n.txt -->
```json
3
```

```python
open("out.txt", "w").write(open("n.txt").read().strip() * 2)
```

<!-- not run: it would fail -->
```bash
exit 7
```

<!-- instead: echo 5 > served.txt -->
```console
$ sleep 1000
```

```console
$ grep -q 33 out.txt   # a comment
33
$ grep -q 5 served.txt
```
"""


def test_files_are_written_and_blocks_run_in_order(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert [block.line for block in blocks_of(page)] == [4, 8, 13, 18, 22]
    assert run_page(page, tmp_path) == 3


def test_a_failing_block_names_the_page_and_the_line(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("<!-- not run: it would fail -->\n", ""))
    with pytest.raises(AssertionError, match=r"page\.md:12: exit 7"):
        run_page(page, tmp_path)
