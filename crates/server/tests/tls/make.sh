#!/bin/sh
# Makes NAME.pem and NAME.key here for the host names on its input, one a line; no name may be in a hurry to end: from 2020 to 2120, whatever
# clock a machine has. Self-signed and public: for tests only.
set -eu
name=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
names=$(sort -u | sed 's/^/DNS:/' | paste -sd, -)
cat > "$work/ca.conf" <<CONF
[ca]
default_ca = own
[own]
database = $work/index
new_certs_dir = $work
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical, CA:FALSE
subjectAltName = $names
CONF
: > "$work/index"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$here/$name.key"
openssl req -new -key "$here/$name.key" -subj "/CN=$name" -out "$work/request"
openssl ca -batch -config "$work/ca.conf" -extensions leaf -notext -selfsign -keyfile "$here/$name.key" \
    -startdate 20200101000000Z -enddate 21200101000000Z -in "$work/request" -out "$here/$name.pem" 2> "$work/log" || { cat "$work/log"; exit 1; }
