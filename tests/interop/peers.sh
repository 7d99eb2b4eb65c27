# Installs peers once, in pinned versions, and says what became of each; for `source`, by a script that has set TMP.
# shellcheck shell=bash

CACHE=${UNDERSTUDY_INTEROP_CACHE:-$HOME/.cache/understudy-interop}
readonly CACHE
CHECK_SECONDS=600

# Each line of a check passes through here, so that the summary counts what was printed. It goes to the script's own
# output also from within $(...).
exec 3>&1
tally() { tee -a "$TMP/results" >&3; }
ok() { echo "ok $1: $2" | tally; }
fail() { echo "FAIL $1: $2" | tally; }
skip() { echo "skipped: $1: $2" | tally; }

# The last line of a log that says something, as a reason.
reason() { grep -v '^[[:space:]]*$' "$1" | tail -n 1 | cut -c 1-300 || true; }

# install NAME COMMAND...: runs it once, quietly; on failure says why and returns 1.
install() {
  local name=$1
  shift
  echo "installing $name" >&2
  if ! "$@" >"$TMP/install.log" 2>&1; then
    skip "$name" "$(reason "$TMP/install.log")"
    return 1
  fi
}

# have TOOL NEEDED-BY
have() { command -v "$1" >/dev/null || { skip "$2" "there is no $1" && return 1; }; }

# A Python check prints its own lines; that it died before the end is one failure more.
python_check() {
  local name=$1 code=0
  shift
  timeout "$CHECK_SECONDS" "$@" 2>"$TMP/check.err" | tee "$TMP/check.out" | tally || code=$?
  if [ "$code" -ne 0 ] && ! grep -q '^FAIL ' "$TMP/check.out"; then
    fail "$name" "exit code $code: $(reason "$TMP/check.err")"
  fi
}

make_venv() {
  local venv=$1
  shift
  rm -rf "$venv" && python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --retries 2 "$@" && touch "$venv/done"
}

# python_peers NAME REQUIREMENTS [OPTION-OF-PIP...]: prints the directory of their environment, or nothing when they can't
# be had.
python_peers() {
  local name=$1 requirements=$2 venv
  shift 2
  venv="$CACHE/venv-$(cat "$requirements" <(python3 --version 2>&1) | cksum | tr ' ' -)"
  [ -f "$venv/done" ] || { have python3 "$name" && install "$name" make_venv "$venv" "$@" -r "$requirements"; } || return 0
  echo "$venv"
}

count() { grep -c "^$1" "$TMP/results" || true; }

# Says how many; returns 1 when a check failed.
summary() {
  local failed
  failed=$(count 'FAIL ')
  echo "$(count 'ok ') passed, $failed failed, $(count 'skipped: ') skipped"
  [ "$failed" -eq 0 ]
}

: >"$TMP/results"
