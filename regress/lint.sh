#!/bin/sh
# Everything that can be said about the tree without running it.
set -eu
cd "$(dirname "$0")/.."

cargo fmt --all -- --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --locked -p hast -p hast-regress --all-targets --features hast/mutants -- -D warnings

if command -v mandoc >/dev/null 2>&1; then
	for page in man/*.[58]; do
		mandoc -T lint -W warning "$page"
	done
else
	echo "mandoc is missing: manual pages not checked" >&2
fi

if command -v shellcheck >/dev/null 2>&1; then
	git ls-files | while read -r file; do
		if head -n 1 "$file" | grep -q '^#!.*sh$'; then
			shellcheck -x "$file"
		fi
	done
else
	echo "shellcheck is missing: scripts not checked" >&2
fi

# unsafe lives in named modules only: no file may allow it without being in this list.
allowed=$(git grep -l 'allow(unsafe_code)' -- '*.rs' | sort)
if [ "$allowed" != "$(sort regress/unsafe-modules.txt)" ]; then
	echo "the modules that allow unsafe code are not those of regress/unsafe-modules.txt:" >&2
	echo "$allowed" >&2
	exit 1
fi
