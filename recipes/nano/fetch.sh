#!/bin/sh
# Fetches what the recipe reads beside the Python packages of requirements.txt: two Debian packages of
# clip art, WordNet, and eight npm packages of icons and their names. Usage: fetch.sh FOLDER
set -eu
mkdir -p "$1/npm" "$1/deb"
cd "$1/deb"
apt-get download openclipart-png=1:0.18+dfsg-19 openclipart-svg=1:0.18+dfsg-19 wordnet-base=1:3.0-37
for package in ./*.deb; do dpkg -x "$package" .; done
cd ../npm
npm install --no-audit --no-fund --prefix . \
    @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 \
    @iconify-json/fluent-emoji@1.2.7 @iconify-json/fluent-emoji-flat@1.2.6 \
    @iconify-json/fxemoji@1.2.2 @iconify-json/flat-color-icons@1.2.3 \
    @iconify-json/meteocons@1.2.4 emojibase-data@17.0.0
