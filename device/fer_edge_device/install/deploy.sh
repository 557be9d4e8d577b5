# What `fer-edge deploy` runs on a host, by its user's shell: see deploy.py, which reads the lines that begin with a mark.
# It makes a folder for what is brought, has the installer out of that run as root, and removes the folder.
set -u
exec 2>&1
mark() { printf 'fer-edge-deploy %s\n' "$*"; }
command -v sudo >/dev/null || [ "$(id -u)" != 0 ] || sudo() { shift; "$@"; } # root of a bare system may have none

# sudo would make of a narrow umask folders that the service cannot look into; the folder itself is closed.
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
trap '' PIPE # nobody listening any more must not keep this from tidying up

mark step look
sudo -n true || { echo "sudo wants a password here; let this user do without: sudo visudo"; exit 1; }

# Once all is copied, the deployer writes the wheel's name.
mark folder "$folder"
read -r wheel || exit 1
exec 3<&0 </dev/null

python=/opt/fer-edge/current/bin/python
# It does not run where there is none yet, nor where the system has got another Python since.
if ! "$python" -IBc 'import msgspec' 2>/dev/null; then
    mark step make a temporary environment
    # The connection is this script's input. When it ends, so does all that was started here.
    { cat <&3; kill -TERM 0; } >/dev/null 2>&1 &
    watch=$!
    python3 -m venv "$folder/venv" || { echo "run there: sudo apt install python3-venv"; exit 1; }
    "$folder/venv/bin/pip" install -q --disable-pip-version-check --no-input --no-cache-dir msgspec || exit 1
    python=$folder/venv/bin/python
    kill "$watch"
    watch=
fi
mark step see what is to change
"$python" -m zipfile -e "$folder/$wheel" "$folder/program" && cd "$folder/program" || exit 1
sudo -n "$python" -B -m fer_edge_device.install.remote_install "$folder" <&3
