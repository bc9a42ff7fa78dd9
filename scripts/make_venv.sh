#!/bin/sh
# Make a virtual environment: make_venv.sh PYTHON FOLDER. Says in one line what is missing.
set -eu
python=$1
folder=$2

if ! command -v "$python" >/dev/null 2>&1; then
    echo "edgevoice needs Python 3.11 or later; there is no $python here (try: make PYTHON=python3.12 ...)" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    version=$("$python" -c 'import platform; print(platform.python_version())')
    echo "edgevoice needs Python 3.11 or later; $python is $version (try: make PYTHON=python3.12 ...)" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$python cannot make virtual environments; on Debian: apt install python3-venv" >&2
    exit 1
fi
if [ -x "$folder/bin/python" ] && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
"$python" -m venv --clear "$folder"
