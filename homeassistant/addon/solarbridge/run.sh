#!/bin/sh
# What the add-on starts: a configuration, the broker, the bridge. The Dockerfile sets the folders.
set -eu
here=$(dirname "$0")
config=$CONFIGURATION_DIRECTORY/config.yaml

if [ ! -e "$config" ]; then
    umask 077
    # not straight to its name: half a file would be taken for the user's own
    cp "$here/example.yaml" "$config.new"
    mv "$config.new" "$config"
    echo "There was no configuration yet. An example is now config.yaml in the add-on's folder below addon_configs:"
    echo "put in your devices, then start the add-on again."
    exit 1
fi

exec python3 -I "$here/broker.py" python3 -I -m bridge run --config "$config"
