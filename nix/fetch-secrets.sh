#!/bin/sh
# Collects secrets from several places into one env file, DIR/env.
#
#   fetch-secrets DIR [SOURCE...] [-- COMMAND ARGUMENT...]
#
#   --env-file CREDENTIAL    the lines of a credential that is an env file
#   --file NAME CREDENTIAL   NAME is what the credential holds
#   --op NAME REFERENCE      NAME is what 1Password has at op://VAULT/ITEM/FIELD;
#                            the token of the service account is the credential `op-token`
#   -- COMMAND ...           the lines that this command prints, in the form of an env file
#
# Credentials are files of $CREDENTIALS_DIRECTORY (LoadCredential= of systemd). The new file takes the place of the old
# one by a rename, and only when every source has answered and the gateway can read all of it: whatever fails, the last
# good set stays. Values go through pipes and variables of this shell; never into an argument, a log or the disk.
set -eu
umask 077

say() {
  printf 'fetch-secrets: %s\n' "$*" >&2
}

fail() {
  say "$*; the last good set, if there is one, stays in force"
  exit 1
}

# put NAME VALUE: a line in double quotes, as systemd and the gateway read it; the value may hold line breaks.
put() {
  [ -n "$2" ] || fail "$1 is empty"
  {
    printf '%s="' "$1"
    printf '%s' "$2" | sed 's/[\\"$`]/\\&/g'
    printf '"\n'
  } >>"$new"
}

[ $# -ge 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
dir=$1
shift
new=$dir/env.new
# Seconds for one answer of 1Password. Beside a good set the service waits for this try, and could do without.
patience=30
[ ! -e "$dir/env" ] || patience=10
none=$dir/none.toml
trap 'rm -f "$new" "$none"' EXIT
rm -f "$new" "$none"
: >"$new"

while [ $# -gt 0 ]; do
  case $1 in
    --env-file)
      cat "$CREDENTIALS_DIRECTORY/$2" >>"$new" || fail "the env file cannot be read"
      # Its last line may lack an end.
      printf '\n' >>"$new"
      shift 2
      ;;
    --file)
      value=$(cat "$CREDENTIALS_DIRECTORY/$3") || fail "the file of $2 cannot be read"
      put "$2" "$value"
      shift 3
      ;;
    --op)
      token=$(cat "$CREDENTIALS_DIRECTORY/op-token") || fail "the token of the 1Password service account cannot be read"
      value=$(OP_SERVICE_ACCOUNT_TOKEN=$token timeout "$patience" op read "$3") ||
        fail "1Password does not give $2 ($3)"
      put "$2" "$value"
      shift 3
      ;;
    --)
      shift
      "$@" >>"$new" || fail "the command '$1' failed"
      printf '\n' >>"$new"
      break
      ;;
    *)
      fail "unknown argument '$1'"
      ;;
  esac
done

# Only its form is looked at here. Whether the configuration finds all it needs is for gateway-config.service: the two
# may change together.
: >"$none"
answer=$(gateway check --config "$none" --env-file "$new" 2>&1) || fail "what came is no env file: $answer"

if [ -e "$dir/env" ] && [ "$(cat "$new")" = "$(cat "$dir/env")" ]; then
  say "nothing has changed"
else
  chmod 0440 "$new"
  mv -f "$new" "$dir/env"
  say "new secrets are in $dir/env"
fi
