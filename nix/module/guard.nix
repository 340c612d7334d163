# Places where a secret seems to be written out. What is in settings and units is in the store, for everybody.
#
# `places` looks at settings, `words` at a command line.
{ lib }:
let
  # Names whose values are secrets, whatever they look like.
  name = ".*(api[-_]?key|access[-_]?key|master_key|secret|password|passwd|token|authorization|private[-_]?key)";
  # Among the names of the configuration these end like a secret and hold none.
  harmless = [ "key_header" ];
  # How keys of providers begin, and a secret within a URL.
  key = "(sk-|gsk_|xai-|AIza|hf_[A-Za-z0-9]{20}|pplx-|Bearer ).*";
  url = "[a-z+]+://([^/@]*:[^/@]+@.*|.*[?&](password|key|api_key|token)=.+)";
  value = "${key}|${url}";
  reference = text: lib.hasPrefix "env:" text || lib.hasPrefix "os.environ/" text;
  looksSecret = text: builtins.match value text != null;
  variable = ".*_(KEY|TOKEN|SECRET|PASSWORD)";
  isSecret =
    place: called: text:
    !reference text
    && text != ""
    && (
      looksSecret text
      || (builtins.match name (lib.toLower called) != null && !builtins.elem called harmless)
      || builtins.match variable called != null
      # Of a caller.
      || (called == "key" && lib.hasPrefix "keys." place)
      # Those of a cloud, whole; a path to them is none.
      || (builtins.match ".*credentials" (lib.toLower called) != null && !lib.hasPrefix "/" text)
    );
  # `called` is the name of the attribute; the items of a list go by the list's.
  find =
    place: called: v:
    if lib.isAttrs v then
      lib.concatLists (lib.mapAttrsToList (n: find (if place == "" then n else "${place}.${n}") n) v)
    else if lib.isList v then
      lib.concatLists (lib.imap0 (i: find "${place}[${toString i}]" called) v)
    else if lib.isString v && isSecret place called v then
      [ place ]
    else
      [ ];

  # `NAME_KEY=value`, `--token=value`; a path or a reference is no secret.
  given = word: builtins.match "(${variable}|--?${name})=([^/].*)" word;
  isWord = word: looksSecret word || (given word != null && !reference (lib.last (given word)));
in
{
  places = find "" "";
  words = lib.filter isWord;
}
