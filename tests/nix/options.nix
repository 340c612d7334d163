# docs/options.md, from the options themselves.
{ lib, print }:
let
  b = builtins;
  inherit (lib) optionalString;

  # Every option below `tree`, with its whole name; those within a submodule too.
  collect =
    place: tree:
    b.concatMap (
      n:
      let
        v = tree.${n};
        at = "${place}.${n}";
      in
      if (v._type or "") != "option" then
        collect at v
      else if v.internal or false then
        [ ]
      else
        [ (v // { name = at; }) ] ++ within at v.type
    ) (b.attrNames tree);
  within =
    place: type:
    if type ? options then
      collect place type.options
    else if type ? inner then
      within (place + optionalString (type ? step) ".${type.step}") type.inner
    else
      [ ];

  # Values as Nix writes them.
  nix =
    v:
    if b.isAttrs v && v ? text then
      v.text
    else if b.isAttrs v then
      "{ ${b.concatStringsSep "" (lib.mapAttrsToList (n: x: "${n} = ${nix x}; ") v)}}"
    else if b.isList v then
      "[ ${b.concatStringsSep "" (map (x: "${nix x} ") v)}]"
    else if v == null then
      "null"
    else
      b.toJSON v;
  shown = v: if (v._type or "") == "literalMD" then v.text else block (nix v);
  block = text: if lib.hasInfix "\n" text then "\n\n```nix\n${text}```" else "`${text}`";
  simple = v: if v == { } then "`{ }`" else if v == [ ] then "`[ ]`" else shown v;

  default =
    o:
    if o ? defaultText then
      simple o.defaultText
    else if o ? default then
      simple o.default
    else if o.readOnly or false then
      "set by the module"
    else
      "none, it has to be set";
  entry = o: ''

    ### `${o.name}`

    ${b.concatStringsSep "\n" (b.filter (l: l != "") (lib.splitLines o.description))}

    - Type: ${o.type.name}
    - Default: ${default o}
    ${optionalString (o ? example) "- Example: ${simple o.example}\n"}'';
in
tree:
''
  # Options of the NixOS module

  Written by `tests/nix/eval --golden` from the options themselves; a test compares. [nixos.md](nixos.md) shows how they
  are used together, [configuration.md](configuration.md) has the fields of `settings` and `models`.
''
+ b.concatStringsSep "" (map entry (collect "services.gateway" tree))
