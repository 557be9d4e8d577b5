# What `fer-edge deploy` runs on a host, by its user's shell: see deploy.py, which reads the lines that begin with a mark.
# $1: name of the wheel. DEPLOY_ROOT: what all paths begin with, in tests.
set -u
wheel=$1 root=${DEPLOY_ROOT-}
home=$root/opt/fer-edge/current unit=fer-edge.service
exec 2>&1
mark() { printf 'fer-edge-deploy %s\n' "$*"; }

# sudo would make of a narrow umask folders that the service cannot look into; the folder itself is closed.
umask 022
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/fer-edge-deploy.XXXXXXXX") || exit 1
committed=yes watch=
finish() {
    status=$?
    trap '' HUP INT TERM
    [ -z "$watch" ] || kill "$watch" 2>/dev/null
    [ "$committed" = yes ] || take_back
    rm -rf "$folder" 2>/dev/null || sudo -n rm -rf "$folder"
    exit "$status"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM
trap '' PIPE # nobody listening any more must not keep this from tidying up

mark step look
sudo -n true || { echo "sudo wants a password here; let this user do without: sudo visudo"; exit 1; }
config=$root/etc/fer-edge/config.toml
if sudo -n test -e "$config"; then sudo -n cat "$config"; fi >"$folder/config.host" || exit 1

# Once all is copied, the deployer writes the model to measure.
mark folder "$folder"
read -r model || exit 1
# The connection is this script's input. When it ends, so does all that was started here.
exec 3<&0 </dev/null
{ cat <&3; kill -TERM 0; } >/dev/null 2>&1 &
watch=$!
exec 3<&-

each_file() { # COMMAND: run for each file to place, with its name, mode, group and target
    while read -r name mode group target <&4; do
        "$1" "$name" "$mode" "$group" "$root$target" || return 1
    done 4<"$folder/files"
}
back_up() { ! sudo -n test -e "$4" || sudo -n cp -a "$4" "$folder/before.$1"; }
place() { sudo -n install -D -m "$2" -g "$3" "$folder/$1" "$4"; }
put_back() {
    if sudo -n test -e "$folder/before.$1"; then sudo -n cp -a "$folder/before.$1" "$4"; else sudo -n rm -f "$4"; fi
}
take_back() {
    mark back
    each_file put_back
    if [ -z "$before" ]; then
        sudo -n "$service" service uninstall
    elif [ -s "$folder/files" ]; then
        sudo -n systemctl restart "$unit"
    fi
}

wants=$root/etc/systemd/system/multi-user.target.wants
many=no # units, one a camera, and not the plain one
[ -e "$wants/$unit" ] || for one in "$wants"/fer-edge@*.service; do [ ! -e "$one" ] || many=yes; done
if [ "$many" = yes ] && [ -s "$folder/files" ]; then
    echo "this host has a unit for each camera (fer-edge@...): leave --config and --model out, and change theirs there"
    exit 1
fi
before=$(readlink -f "$home") && [ -x "$before/bin/fer-edge" ] || before=
if [ -n "$before" ]; then
    service=$home/bin/fer-edge
else
    mark step make a temporary environment
    python3 -m venv "$folder/venv" || { echo "run there: sudo apt install python3-venv"; exit 1; }
    "$folder/venv/bin/pip" install -q --disable-pip-version-check --no-input "$folder/$wheel" || exit 1
    service=$folder/venv/bin/fer-edge
fi

mark step place files
each_file back_up || exit 1
committed=no
each_file place || exit 1
if [ -n "$before" ]; then
    mark step upgrade
    sudo -n "$service" service upgrade --from "$folder/$wheel" || exit 1
    if [ "$(readlink -f "$home")" = "$before" ] && [ -s "$folder/files" ]; then
        mark step restart
        sudo -n systemctl restart "$unit" || exit 1
    fi
fi
if [ "$many" = no ]; then
    mark step install and wait until it is ready
    sudo -n "$service" service install --from "$folder/$wheel" || exit 1
fi
committed=yes
mark version "$("$home/bin/fer-edge" --version)"

mark step measure
"$home/bin/fer-edge" bench --json "$model" >"$folder/bench" || exit 1
mark bench "$(tr -d '\n' <"$folder/bench")"
mark done
