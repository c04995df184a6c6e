#!/bin/sh
# The command `solarbridge` of an installation: the program beside this file, wherever that is.
here=$(dirname -- "$(readlink -f -- "$0")")
if [ -x "$here/python" ]; then
    exec "$here/python" -I -m bridge "$@"
fi
# Venus OS: no environment of its own, the packages lie beside. Names of files are looked up where the caller stands.
PYTHONPATH=${here%/*}/lib
export PYTHONPATH
exec python3 -P -s -m bridge "$@"
