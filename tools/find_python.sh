#!/bin/sh
# Print the first Python 3.11-3.13 that really runs and can make an environment.
# A name on the PATH is not enough: pyenv's shims answer to versions that are not chosen.
# PYTHON=/path/to/python overrides the search.

runs() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

makes_environments() {
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

without_venv=""
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    runs "$candidate" || continue
    if makes_environments "$candidate"; then
        echo "$candidate"
        exit 0
    fi
    without_venv=${without_venv:-$candidate}
done

if [ -n "$without_venv" ]; then
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "error: $without_venv has no venv with pip (the modules venv and ensurepip)" >&2
    echo "  fix: Debian, Ubuntu: sudo apt install python$version-venv" >&2
    echo "       Fedora:         sudo dnf install python$version" >&2
    echo "       macOS:          brew install python@$version" >&2
else
    echo "error: no Python 3.11, 3.12 or 3.13 runs here${PYTHON:+ as PYTHON=$PYTHON}" >&2
    echo "  fix: Debian, Ubuntu: sudo apt install python3 python3-venv" >&2
    echo "       Fedora:         sudo dnf install python3.13" >&2
    echo "       macOS:          brew install python@3.13" >&2
    echo "       or name one:    make demo PYTHON=/path/to/python3.12" >&2
fi
exit 1
