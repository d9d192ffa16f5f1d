#!/bin/sh
# Installs what tests compare with: dcm2niix, dciodvfy (dicom3tools), and Orthanc with its DICOMweb plugin; and Chromium,
# which drives the page of `stunet serve`.
# On Debian and as root only. Orthanc's service is neither started now nor when the machine starts: tests start Orthanc
# themselves, with a folder of their own.

PACKAGES="dcm2niix dicom3tools orthanc orthanc-dicomweb chromium"
POLICY=/usr/sbin/policy-rc.d # where it says 101, Debian starts no service that is installed

[ "$(id -u)" = 0 ] && command -v apt-get > /dev/null || exit 0
# shellcheck disable=SC2086
dpkg -s $PACKAGES > /dev/null 2>&1 && exit 0

had_orthanc=$(dpkg -s orthanc 2> /dev/null)
if [ ! -e "$POLICY" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$POLICY" && chmod 755 "$POLICY"
    trap 'rm -f "$POLICY"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
timeout 600 sh -c "apt-get update -qq; apt-get install -y -qq --no-install-recommends $PACKAGES" > /dev/null 2>&1
[ -n "$had_orthanc" ] || update-rc.d orthanc disable > /dev/null 2>&1
