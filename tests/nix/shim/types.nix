# Types of options: what they admit, how definitions meet, and how they are called in the documents.
{ lib }:
let
  b = builtins;
  modules = import ./modules.nix { inherit lib; };
  inherit (modules) evalOptions gather mergeAs;

  simple = name: check: {
    inherit name check;
    merge =
      place: values:
      if equal values then b.head values else throw "${place} is defined twice, with different values";
  };
  # One alone may be a function, which equals nothing.
  equal = values: b.length values == 1 || b.all (v: v == b.head values) values;
  isInt = lowest: highest: v: b.isInt v && v >= lowest && v <= highest;

  # Anything that TOML or a unit file can hold: sets meet member by member, lists one behind the other.
  freeform = {
    name = "anything";
    check = _: true;
    merge =
      place: values:
      if b.length values == 1 && b.isFunction (b.head values) then
        b.head values
      else if b.all (v: b.isAttrs v && !(v ? outPath)) values then
        (types.attrsOf freeform).merge place values
      else if b.all b.isList values then
        map (v: freeform.merge place [ v ]) (b.concatLists values)
      else
        (simple "value" (_: true)).merge place values;
  };

  types = {
    anything = freeform;
    raw = freeform;
    str = simple "text" b.isString;
    lines = types.str // {
      merge = _: b.concatStringsSep "\n";
    };
    bool = simple "boolean" b.isBool;
    port = simple "port" (isInt 0 65535);
    int = simple "whole number" b.isInt;
    ints.unsigned = simple "whole number, not negative" (isInt 0 9223372036854775807);
    path = simple "absolute path" (v: b.isPath v || (b.isString v && lib.hasPrefix "/" v));
    package = simple "package" (v: b.isAttrs v && v ? outPath);

    nullOr = inner: {
      name = "null or ${inner.name}";
      inherit inner;
      check = v: v == null || inner.check v;
      merge = place: values: if b.all (v: v == null) values then null else inner.merge place values;
    };
    either = one: other: {
      name = "${one.name} or ${other.name}";
      check = v: one.check v || other.check v;
      merge = place: values: (if b.all one.check values then one else other).merge place values;
    };
    listOf = inner: {
      name = "list of ${inner.name}";
      inherit inner;
      step = "*";
      empty = [ ];
      check = b.isList;
      merge =
        place: values:
        lib.imap0 (i: v: mergeAs "${place}[${toString i}]" inner [ v ]) (b.concatLists values);
    };
    attrsOf = inner: {
      name = "set of ${inner.name}";
      inherit inner;
      step = "<name>";
      empty = { };
      check = v: b.isAttrs v && !(v ? outPath);
      merge =
        place: values:
        let
          kids = gather values;
          present = b.filter (n: modules.winners kids.${n} != [ ]) (b.attrNames kids);
        in
        lib.genAttrs present (n: mergeAs "${place}.${n}" inner kids.${n});
    };
    submodule =
      module:
      let
        declared =
          name: config: if b.isFunction module then module { inherit name config lib; } else module;
      in
      {
        name = "submodule";
        empty = { };
        check = b.isAttrs;
        options = (declared "<name>" { }).options or { };
        merge =
          place: values:
          let
            m = declared (lib.last (b.filter b.isString (b.split "[.]" place))) result;
            result = evalOptions place (m.options or { }) (m.freeformType or null) (
              values ++ lib.optional (m ? config) m.config
            );
            unknown = if m ? freeformType then [ ] else modules.undeclared place (m.options or { }) values;
          in
          if unknown == [ ] then result else throw "no such option: ${b.concatStringsSep ", " unknown}";
      };
  };
in
types
