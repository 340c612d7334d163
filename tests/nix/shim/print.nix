# Values as texts: unit files as NixOS would write them, TOML, and a flat listing of everything else.
{ lib }:
let
  b = builtins;
  inherit (lib) concatMapStringsSep optionalString;
  lines = b.concatStringsSep "";

  # Unit files.
  word = v: if v == true then "true" else if v == false then "false" else toString v;
  entry =
    name: v:
    if v == null then
      ""
    else if b.isList v then
      lines (map (entry name) v)
    else
      "${name}=${word v}\n";
  section = name: entries: "[${name}]\n${lines (lib.mapAttrsToList entry entries)}";
  list = name: values: optionalString (values != [ ]) "${name}=${b.concatStringsSep " " values}\n";
  # Relations in a fixed order; of several definitions each name once.
  about =
    unit:
    section "Unit" unit.unitConfig
    + optionalString (unit.description != "") (entry "Description" unit.description)
    + list "Documentation" unit.documentation
    + list "Requires" (lib.unique unit.requires)
    + list "Wants" (lib.unique unit.wants)
    + list "After" (lib.unique unit.after)
    + list "Before" (lib.unique unit.before);
  install = unit: optionalString (unit.wantedBy != [ ]) "\n[Install]\n${list "WantedBy" unit.wantedBy}";
  # NixOS adds the programs that every script may call; on Debian these are where they always are.
  path = unit: concatMapStringsSep ":" (p: "${p}/bin") unit.path + ":/usr/bin:/bin";
  environment =
    unit: unit.environment // lib.optionalAttrs (unit.path != [ ]) { PATH = path unit; };

  service =
    unit:
    about unit
    + "\n"
    + section "Service" unit.serviceConfig
    + lines (lib.mapAttrsToList (n: v: "Environment=${b.toJSON "${n}=${v}"}\n") (environment unit))
    + optionalString (!unit.restartIfChanged) "X-RestartIfChanged=false\n"
    + optionalString (!unit.stopIfChanged) "X-StopIfChanged=false\n"
    + install unit;
  socket =
    unit:
    about unit
    + "\n"
    + section "Socket" unit.socketConfig
    + entry "ListenStream" unit.listenStreams
    + install unit;
  timer = unit: about unit + "\n" + section "Timer" unit.timerConfig + install unit;
  named = ending: print: units: lib.mapAttrs' (n: u: lib.nameValuePair "${n}.${ending}" (print u)) units;

  # TOML: what is no set first, then the tables. Texts are written as JSON writes them, which TOML reads.
  key = n: if b.match "[A-Za-z0-9_-]+" n != null then n else b.toJSON n;
  inline =
    v:
    if b.isAttrs v then
      "{ ${concatMapStringsSep ", " (n: "${key n} = ${inline v.${n}}") (b.attrNames v)} }"
    else if b.isList v then
      "[${concatMapStringsSep ", " inline v}]"
    else
      b.toJSON v;
  isTables = v: b.isList v && v != [ ] && b.all b.isAttrs v;
  table =
    place: attrs:
    let
      names = b.attrNames attrs;
      plain = b.filter (n: !b.isAttrs attrs.${n} && !isTables attrs.${n}) names;
      at = n: if place == "" then key n else "${place}.${key n}";
      sub = n: if isTables attrs.${n} then lines (map (tables n) attrs.${n}) else oneTable n;
      tables = n: item: "\n[[${at n}]]\n${lines (map (k: "${key k} = ${inline item.${k}}\n") (b.attrNames item))}";
      oneTable = n: optionalString (attrs.${n} != { }) ("\n[${at n}]\n" + table (at n) attrs.${n});
    in
    lines (map (n: "${key n} = ${inline attrs.${n}}\n") plain)
    + lines (map sub (b.filter (n: !b.elem n plain) names));

  # One line for each value, with the way to it; texts of several lines are set in below.
  flat =
    place: v:
    if b.isAttrs v && v != { } && !(v ? outPath) then
      lines (lib.mapAttrsToList (n: flat (if place == "" then key n else "${place}.${key n}")) v)
    else if b.isString v && lib.hasInfix "\n" v then
      "${place} =\n${lines (map (l: optionalString (l != "") "    ${l}\n") (lib.splitLines v))}"
    else if b.isList v && b.any b.isAttrs v && !(b.any (p: p ? outPath) v) then
      lines (lib.imap0 (i: flat "${place}[${toString i}]") v)
    else
      "${place} = ${b.toJSON v}\n";
in
{
  units =
    config:
    named "service" service config.systemd.services
    // named "socket" socket config.systemd.sockets
    // named "timer" timer config.systemd.timers;
  toml = table "";
  flat = flat "";
}
