#!/usr/bin/env bash
# Sees to the system packages that the tests need (Debian 12): says nothing when they are there, installs what is missing when it
# runs as root, and otherwise says what is missing and ends with status 1.  None of their services has to run, and none is started:
# the tests start the servers themselves.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

PATH=$PATH:/usr/sbin:/sbin

# command it brings -> Debian packages
declare -A packages=(
    [make]=make
    [git]=git
    [ip]=iproute2
    [openssl]=openssl
    # what the gateway stands in front of, and what it is compared with
    [dovecot]=dovecot-imapd
    [saslpasswd2]=sasl2-bin
    [nginx]="nginx-light libnginx-mod-mail"
    [haproxy]=haproxy
    # mail programs that go through it
    [mbsync]=isync
    [offlineimap]=offlineimap3
    [mutt]=mutt
    [neomutt]=neomutt
    [fetchmail]=fetchmail
    [getmail]=getmail6
    [curl]=curl
    [thunderbird]=thunderbird
    # what stands for a terminal and a screen, with nobody in front of them
    [tmux]=tmux
    [Xvfb]=xvfb
)
cyrus=/usr/local/lib/cyrus-imapd-unpacked

fail() {
    echo "$1" >&2
    exit 1
}

# Debian lets only one package with an IMAP server be installed, so the second one is unpacked beside it, and runs from there.
unpack_cyrus() {
    local libraries place
    mapfile -t libraries < <(apt-cache depends cyrus-common cyrus-imapd | sed -n 's/^  Depends: \(lib[^ <>]*\)$/\1/p' | sort -u)
    apt-get install -y -qq --no-install-recommends --no-upgrade "${libraries[@]}" >&2 || return
    place=$(mktemp -d) && chmod 755 "$place" || return
    (
        cd "$place" && apt-get download -qq -o APT::Sandbox::User=root cyrus-common cyrus-imapd >&2 || exit
        for package in ./*.deb; do dpkg-deb -x "$package" unpacked || exit; done
        rm -rf "$cyrus" && mkdir -p "${cyrus%/*}" && mv unpacked "$cyrus"
    )
    local code=$?
    rm -rf "$place"
    return "$code"
}

missing=()
for command in "${!packages[@]}"; do
    # shellcheck disable=SC2206 # one or more packages
    command -v "$command" >/dev/null || missing+=(${packages[$command]})
done
sh tools/find_python.sh >/dev/null 2>&1 || missing+=(python3 python3-venv)

if ((${#missing[@]})) || [[ ! -x $cyrus/usr/lib/cyrus/bin/imapd ]]; then
    ((EUID == 0)) || fail "the tests need packages that only root can install (sudo tools/system_packages.sh): ${missing[*]:-Cyrus, unpacked to $cyrus}"
    command -v apt-get >/dev/null || fail "the tests need packages that are installed with Debian's apt-get, which is not here: ${missing[*]:-Cyrus}"
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d # says that no service may start by being installed
    if [[ ! -e $policy ]]; then
        policy_made=$policy
        trap 'rm -f "$policy_made"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
    fi
    apt-get update -qq >&2 || fail "apt-get update failed"
    if ((${#missing[@]})); then
        echo "installing ${missing[*]}"
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || fail "apt-get install failed: ${missing[*]}"
    fi
    if [[ ! -x $cyrus/usr/lib/cyrus/bin/imapd ]]; then
        echo "unpacking Cyrus to $cyrus"
        unpack_cyrus || fail "Cyrus could not be unpacked"
    fi
fi
exit 0
