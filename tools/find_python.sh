#!/bin/sh
# Prints the path of a Python that can make a virtual environment for this project: 3.11 or newer, with venv and ensurepip.
# Each candidate is run, since a name on the PATH may be a stub for a version that is not there.
# When there is none, says on stderr what was found and what to install, and fails.
set -u

report=""
for name in ${PYTHON:-python3 python3.11 python3.12 python3.13 python3.14}; do
    path=$(command -v "$name" 2>/dev/null) || continue
    answer=$("$path" -c '
import sys
version = "%d.%d.%d" % sys.version_info[:3]
if sys.version_info < (3, 11):
    print("is Python %s, which is too old" % version)
else:
    try:
        import ensurepip, venv
        print("good")
    except ImportError as missing:
        print("is Python %s, but cannot make virtual environments (%s)" % (version, missing))
' 2>/dev/null) || answer="does not run"
    if [ "$answer" = good ]; then
        printf '%s\n' "$path"
        exit 0
    fi
    report="$report  $path $answer
"
done

{
    echo "A Python 3.11 or newer that can make virtual environments is needed, and none was found."
    if [ -n "$report" ]; then
        printf '%s' "$report"
    elif [ -n "${PYTHON:-}" ]; then
        echo "  PYTHON=$PYTHON names no command."
    fi
    echo "On Debian and Ubuntu: apt-get install python3 python3-venv"
    echo "Or name one: make PYTHON=/path/to/python3.12 ..."
} >&2
exit 1
