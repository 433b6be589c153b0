#!/usr/bin/env bash
# What an APK has to be: the model uncompressed, native libraries ready for 16 KB pages, no network.
# Usage: check_apk.sh app.apk   (needs ANDROID_HOME with build tools 35 or newer, unzip, readelf)
set -euo pipefail

apk=$1
tools=$(find "$ANDROID_HOME/build-tools" -mindepth 1 -maxdepth 1 | sort -V | tail -n 1)
failed=0
complain() {
    echo "FAILED: $1"
    failed=1
}

grep -q ' Stored ' <<<"$(unzip -v "$apk" assets/model.tflite)" ||
    complain "assets/model.tflite is missing or compressed (noCompress += \"tflite\")"

"$tools/zipalign" -c -P 16 4 "$apk" ||
    complain "native libraries do not lie on 16 KB boundaries"

libraries=$(mktemp -d)
trap 'rm -rf "$libraries"' EXIT
unzip -q "$apk" 'lib/arm64-v8a/*' 'lib/x86_64/*' -d "$libraries" ||
    complain "native libraries for 64-bit phones or for the emulator are missing"
while IFS= read -r library; do
    # The last column of each LOAD segment is its alignment; 0x4000 is 16 KB.
    while read -r alignment; do
        ((alignment >= 0x4000)) || complain "${library#"$libraries/"} is linked for $alignment"
    done < <(readelf -lW "$library" | awk '$1 == "LOAD" { print $NF }')
done < <(find "$libraries" -name '*.so')

permissions=$("$tools/aapt2" dump permissions "$apk")
if grep -qE 'android\.permission\.(INTERNET|ACCESS_NETWORK_STATE)' <<<"$permissions"; then
    complain "the app asks for the network: $permissions"
fi

((failed == 0)) && echo "$apk: model uncompressed, 16 KB pages, no network"
exit "$failed"
