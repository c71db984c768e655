#!/usr/bin/env bash
# A Ceph object store with its S3 gateway on this machine, for tests: one monitor, one disk in memory, one gateway, no manager.
#
#   scripts/ceph_rgw.sh up DIR PORT    starts it, makes the buckets `recordings` and `locked` (object lock), prints the
#                                      variables that the tests read; PORT + 1 is the monitor's
#   scripts/ceph_rgw.sh down DIR       ends what `up` started there
#
# Debian packages: radosgw ceph-mon ceph-osd ceph-common. Everything lies in DIR and in memory, and is gone after `down`.
# The gateway truly holds locks: nobody deletes a version before its time, in governance mode not without a bypass.
set -euo pipefail
verb=${1:-} dir=${2:-} port=${3:-7480}
[ -n "$dir" ] || { sed -n '2,10p' "$0" >&2; exit 2; }
access=callvault-tests secret=callvault-tests-secret-0123456789

if [ "$verb" = down ]; then
  for name in client.rgw.a osd.0 mon.a; do
    if [ -s "$dir/run/$name.pid" ]; then kill "$(cat "$dir/run/$name.pid")" 2>/dev/null || true; fi
  done
  exit 0
fi
[ "$verb" = up ] || { echo "up or down, not ${verb:-nothing}" >&2; exit 2; }
for program in ceph-mon ceph-osd radosgw radosgw-admin monmaptool python3; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install radosgw ceph-mon ceph-osd ceph-common" >&2; exit 1; }
done
[ ! -e "$dir/ceph.conf" ] || { echo "$dir holds a store already; take another folder" >&2; exit 1; }
mkdir -p "$dir"/{mon,osd,rgw,run,log}
dir=$(cd "$dir" && pwd)
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$dir/ceph.conf" <<CONF
[global]
fsid = $fsid
mon initial members = a
mon host = v1:127.0.0.1:$((port + 1))
public addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
auth allow insecure global id reclaim = false
run dir = $dir/run
admin socket = $dir/run/\$name.asok
pid file = $dir/run/\$name.pid
log file = $dir/log/\$name.log
mon cluster log file = $dir/log/cluster.log
crash dir = $dir/run
# One copy of everything, in memory.
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 0
[mon.a]
mon data = $dir/mon
[osd.0]
osd data = $dir/osd
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:$port
rgw data = $dir/rgw
rgw run sync thread = false
rgw enable usage log = false
keyring = /dev/null
CONF
conf=(-c "$dir/ceph.conf")
say() { echo "$*" >&2; }
{
  monmaptool --create --fsid "$fsid" --addv a "[v1:127.0.0.1:$((port + 1))]" "$dir/monmap"
  ceph-mon "${conf[@]}" --mkfs -i a --monmap "$dir/monmap"
  ceph-mon "${conf[@]}" -i a
  disk=$(cat /proc/sys/kernel/random/uuid)
  timeout 60 ceph "${conf[@]}" osd new "$disk"
  ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$disk"
  ceph-osd "${conf[@]}" -i 0
} >"$dir/log/start.log" 2>&1 || { say "the cluster did not start; see $dir/log/start.log"; exit 1; }
timeout 60 ceph "${conf[@]}" osd crush add osd.0 1.0 root=default host=h >>"$dir/log/start.log" 2>&1 || true
radosgw "${conf[@]}" -n client.rgw.a >>"$dir/log/start.log" 2>&1
for _ in $(seq 600); do
  ! timeout 2 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port" 2>/dev/null || break
  sleep 0.1
done
timeout 60 radosgw-admin "${conf[@]}" -n client.rgw.a user create --uid=tests --display-name=tests \
  --access-key="$access" --secret="$secret" >>"$dir/log/start.log" 2>&1 ||
  { say "the gateway made no user; see $dir/log/start.log"; exit 1; }

# Two buckets, signed by hand (AWS signature, version 4), so that nothing else is needed here.
python3 - "$port" "$access" "$secret" <<'PY'
import datetime, hashlib, hmac, sys, time, urllib.request

port, access, secret = sys.argv[1:]
host = f"127.0.0.1:{port}"


def make(bucket, lock):
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    empty = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": stamp}
    if lock:
        headers["x-amz-bucket-object-lock-enabled"] = "true"
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = f"PUT\n/{bucket}\n\n{lines}\n{names}\n{empty}"
    scope = f"{day}/us-east-1/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (day, "us-east-1", "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    urllib.request.urlopen(
        urllib.request.Request(f"http://{host}/{bucket}", method="PUT", headers=headers), timeout=30
    )


for bucket, lock in (("recordings", False), ("locked", True)):
    for left in range(60, -1, -1):
        try:
            make(bucket, lock)
            break
        except OSError as error:
            if not left:
                sys.exit(f"the bucket {bucket} was not made: {error}")
            time.sleep(0.5)
PY
cat <<VARIABLES
CALLVAULT_TEST_CEPH_ENDPOINT=http://127.0.0.1:$port
CALLVAULT_TEST_CEPH_ACCESS_KEY=$access
CALLVAULT_TEST_CEPH_SECRET_KEY=$secret
CALLVAULT_TEST_CEPH_BUCKET=recordings
CALLVAULT_TEST_CEPH_LOCK_BUCKET=locked
VARIABLES
