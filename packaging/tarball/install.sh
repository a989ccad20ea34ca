#!/bin/sh
# Installs what lies beside it: ./install.sh [--prefix FOLDER] [--uninstall [--purge]]
#
#   --prefix FOLDER   where it goes; otherwise /usr/local
#   --uninstall       takes away what was installed there, after names went back to who had them
#   --purge           with it: also the configuration, what was learned, and the user the daemon ran as
#
# DESTDIR=FOLDER installs into the tree of another machine: files only, nothing is started or stopped.
set -eu
umask 022
export LC_ALL=C

die() {
    echo "install.sh: $1" >&2
    exit 1
}

prefix=/usr/local action=install purge=
while [ $# -gt 0 ]; do
    case "$1" in
    --prefix)
        [ $# -gt 1 ] || die "--prefix needs a folder"
        prefix="$2"
        shift
        ;;
    --prefix=*) prefix="${1#--prefix=}" ;;
    --uninstall) action=uninstall ;;
    --purge) purge=yes ;;
    --help | -h)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *) die "found $1, expected --prefix FOLDER, --uninstall or --purge" ;;
    esac
    shift
done
case "$prefix" in
/*) ;;
*) die "found --prefix $prefix, expected an absolute path" ;;
esac
case "$prefix" in
*[!A-Za-z0-9/._+-]*) die "found --prefix $prefix, expected letters, digits and /._+- only: units and scripts name it" ;;
esac
[ -z "$purge" ] || [ "$action" = uninstall ] || die "--purge goes with --uninstall"
prefix="${prefix%/}"
root="${DESTDIR:-}"
root="${root%/}"
here="$(cd "$(dirname "$0")" && pwd)"
# What was installed, one path a line, folders with a slash at the end, for the removal and for the next installation.
list="$root$prefix/share/truename/installed"
sockets="truename.socket truename-stats.socket truename-control.socket"

# Tells whether this is about the machine that runs.
is_here() {
    [ -z "$root" ]
}

has_systemd() {
    is_here && [ -d /run/systemd/system ]
}

# Makes a folder and those above it, and notes which were not there.
folder() {
    [ -d "$root$1" ] && return
    [ "$1" = / ] || folder "$(dirname "$1")"
    mkdir -p "$root$1"
    echo "$1/" >>"$scratch.folders"
}

# put MODE SOURCE PATH: by a rename, since the program may be running.
put() {
    folder "$(dirname "$3")"
    cp "$2" "$root$3.new"
    chmod "$1" "$root$3.new"
    mv -f "$root$3.new" "$root$3"
    echo "$3" >>"$scratch.files"
}

put_all() {
    for source in "$2"/*; do
        put "$1" "$source" "$3/${source##*/}"
    done
}

# Units name the program by its path.
put_unit() {
    sed "s|/usr/bin/truename|$prefix/bin/truename|g" "$1" >"$scratch.unit"
    put 644 "$scratch.unit" "/etc/systemd/system/${1##*/}"
}

install_all() {
    : >"$scratch.folders"
    echo "$prefix/share/truename/installed" >"$scratch.files"
    put 755 "$here/bin/truename" "$prefix/bin/truename"
    put_all 644 "$here/man/man5" "$prefix/share/man/man5"
    put_all 644 "$here/man/man8" "$prefix/share/man/man8"
    put 644 "$here/bash/truename" "$prefix/share/bash-completion/completions/truename"
    put 644 "$here/zsh/_truename" "$prefix/share/zsh/site-functions/_truename"
    put 644 "$here/fish/truename.fish" "$prefix/share/fish/vendor_completions.d/truename.fish"
    put_all 644 "$here/doc" "$prefix/share/doc/truename"
    put 644 "$here/LICENSE-MIT" "$prefix/share/doc/truename/LICENSE-MIT"
    put 644 "$here/LICENSE-APACHE" "$prefix/share/doc/truename/LICENSE-APACHE"
    put 644 "$here/truename.toml" "$prefix/share/doc/truename/truename.toml"
    put 644 "$here/install.sh" "$prefix/share/truename/install.sh"
    for unit in "$here"/systemd/*; do
        put_unit "$unit"
    done
    put 644 "$here/sysusers.conf" "/etc/sysusers.d/truename.conf"
    if [ ! -e "$root/etc/truename/truename.toml" ]; then
        mkdir -p "$root/etc/truename"
        cp "$here/truename.toml" "$root/etc/truename/truename.toml"
        chmod 644 "$root/etc/truename/truename.toml"
    fi
    # What an earlier version had and this one has not; its folders are still ours.
    if [ -e "$list" ]; then
        while read -r path; do
            case "$path" in
            */) echo "$path" >>"$scratch.folders" ;;
            *) grep -qxF "$path" "$scratch.files" || rm -f "$root$path" ;;
            esac
        done <"$list"
    fi
    sort -u "$scratch.files" "$scratch.folders" >"$list.new"
    mv "$list.new" "$list"
}

start() {
    if ! is_here; then
        echo "Installed below $root; nothing was started."
        return 0
    fi
    if ! has_systemd; then
        echo "Installed in $prefix. Without systemd, start it with: $prefix/bin/truename run"
        return 0
    fi
    systemd-sysusers /etc/sysusers.d/truename.conf
    systemctl daemon-reload
    # One that runs goes on with the new program; its sockets stay open, and what arrives meanwhile waits in them.
    systemctl try-restart truename.service
    echo "Installed in $prefix. To have the names of this machine come to it: $prefix/bin/truename up"
}

stop() {
    is_here || return 0
    # Where names cannot be given back, the program stays, and says what to do.
    "$prefix/bin/truename" down --quiet || die "nothing was removed, since names could not be given back"
    if has_systemd; then
        # shellcheck disable=SC2086 # words, on purpose
        systemctl disable --now --quiet $sockets truename.service
    fi
}

uninstall_all() {
    [ -e "$list" ] || die "found no $list, expected the list that an installation with this prefix leaves"
    stop
    if [ -n "$purge" ]; then
        rm -rf "$root/etc/truename" "$root/var/lib/truename" "$root/var/lib/truename-takeover" "$root/var/log/truename"
        rm -f "$root/run/truename-up.lock" "$root/run/truename-takeover.lock"
    fi
    # The other way round, so that a folder is empty when its turn comes. One that somebody else uses by now stays.
    sort -r "$list" >"$scratch.files"
    while read -r path; do
        case "$path" in
        */) rmdir "$root$path" 2>/dev/null || true ;;
        *) rm -f "$root$path" ;;
        esac
    done <"$scratch.files"
    if has_systemd; then systemctl daemon-reload; fi
    if is_here; then rm -rf /run/truename; fi
    if [ -n "$purge" ]; then
        if is_here && command -v userdel >/dev/null && id truename >/dev/null 2>&1; then userdel truename; fi
    else
        echo "Removed. What stays: /etc/truename, /var/lib/truename, /var/log/truename and the user truename (--purge takes them away)."
    fi
}

if is_here && [ "$(id -u)" != 0 ]; then
    die "only root can install for a whole machine; DESTDIR=FOLDER installs below a folder"
fi
scratch="$(mktemp -d)/installing"
trap 'rm -rf "${scratch%/*}"' EXIT
if [ "$action" = install ]; then
    install_all
    start
else
    uninstall_all
fi
