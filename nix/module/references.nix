# The variables that settings refer to by `env:NAME` or `os.environ/NAME`: a list of { place, name }.
{ lib }:
let
  find =
    place: v:
    if lib.isAttrs v then
      lib.concatLists (lib.mapAttrsToList (n: find (if place == "" then n else "${place}.${n}")) v)
    else if lib.isList v then
      lib.concatLists (lib.imap0 (i: find "${place}[${toString i}]") v)
    else if lib.isString v && lib.hasPrefix "env:" v then
      [ { inherit place; name = lib.removePrefix "env:" v; } ]
    else if lib.isString v && lib.hasPrefix "os.environ/" v then
      [ { inherit place; name = lib.removePrefix "os.environ/" v; } ]
    else
      [ ];
in
find ""
