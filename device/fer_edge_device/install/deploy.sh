# `fer-edge deploy` runs this on a host, in the user's shell: see deploy.py, which reads the lines that begin with a mark.
# It creates a folder for the files, runs the installer from there as root, and removes the folder.
set -u
exec 2>&1
mark() { printf 'fer-edge-deploy %s\n' "$*"; }
command -v sudo >/dev/null || [ "$(id -u)" != 0 ] || sudo() { shift; "$@"; } # a bare system may have no sudo

# With a narrow umask, sudo would create folders that the service cannot read. The folder itself is private.
umask 022
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/fer-edge-deploy.XXXXXXXX") || exit 1
watch=
finish() {
    status=$?
    trap '' HUP INT TERM
    [ -z "$watch" ] || kill "$watch" 2>/dev/null
    rm -rf "$folder"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
trap '' PIPE # if nobody reads the output any more, the folder must be removed all the same

mark step check sudo
sudo -n true || { echo "sudo asks for a password here; allow this user to use it without one: sudo visudo"; exit 1; }

# The deploying machine writes the wheel's name when it has copied everything; an empty line if the program stays.
mark folder "$folder"
read -r wheel || exit 1
exec 3<&0 </dev/null

# Before anything of a release runs. `signatures.py` has the same rule.
keys=/etc/fer-edge/trusted-keys
if ls "$keys"/*.pub >/dev/null 2>&1; then
    mark step check signatures
    command -v minisign >/dev/null \
        || { echo "$keys has keys, but the program that checks signatures is missing: sudo apt install minisign"; exit 1; }
    for file in "$folder"/*.whl "$folder"/*.tflite; do
        [ -e "$file" ] || continue
        signed=
        for key in "$keys"/*.pub; do
            if minisign -V -q -m "$file" -p "$key" >/dev/null 2>&1; then signed=yes; fi
        done
        [ -n "$signed" ] || { echo "${file##*/}: no key in $keys has signed it, or it was changed since"; exit 1; }
    done
fi

python=/opt/fer-edge/current/bin/python
if [ -z "$wheel" ]; then
    mark step find out what to change
    "$python" -IBc 'import fer_edge_device.config.settings' 2>/dev/null \
        || { echo "no fer-edge is installed here, or it does not run: deploy it with --wheel or --config"; exit 1; }
    sudo -n "$python" -IBm fer_edge_device.install.remote_install "$folder" <&3
    exit
fi
# It is missing on a new host, and fails after an upgrade of the system's Python or where it lacks a package.
if ! "$python" -IBc 'import msgspec, tomlkit' 2>/dev/null; then
    mark step create a temporary environment
    # The connection is this script's input. When it ends, stop everything that was started here.
    { cat <&3; kill -TERM 0; } >/dev/null 2>&1 &
    watch=$!
    python3 -m venv "$folder/venv" || { echo "run on the host: sudo apt install python3-venv"; exit 1; }
    "$folder/venv/bin/pip" install -q --disable-pip-version-check --no-input --no-cache-dir msgspec tomlkit || exit 1
    python=$folder/venv/bin/python
    kill "$watch"
    watch=
fi
mark step find out what to change
"$python" -m zipfile -e "$folder/$wheel" "$folder/program" && cd "$folder/program" || exit 1
sudo -n "$python" -B -m fer_edge_device.install.remote_install "$folder" <&3
