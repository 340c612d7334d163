# How definitions become values: mkIf, mkMerge, priorities, defaults, options within options, free-form rests.
#
# As nixpkgs' module system does it for what this module needs. Not here: mkOrder, disabledModules, `apply`, options
# declared twice, imports taken twice. So this is a smoke evaluation; it proves nothing about NixOS itself.
{ lib }:
let
  b = builtins;
  kind = v: if b.isAttrs v then v._type or "" else "";
  isOption = v: kind v == "option";
  usual = 100;
  ofDefault = 1500;

  # A definition without its mkIf and mkMerge: a list of { priority, value }.
  discharge =
    v:
    if kind v == "if" then
      (if v.condition then discharge v.content else [ ])
    else if kind v == "merge" then
      b.concatMap discharge v.contents
    else if kind v == "override" then
      map (d: d // { inherit (v) priority; }) (discharge v.content)
    else
      [
        {
          priority = usual;
          value = v;
        }
      ];

  # The values that count among several definitions: those of the strongest priority.
  winners =
    definitions:
    let
      all = b.concatMap discharge definitions;
      best = b.foldl' (least: d: if d.priority < least then d.priority else least) 9999 all;
    in
    map (d: d.value) (b.filter (d: d.priority == best) all);

  # mkIf and the like moved from a set to its members, whose names must be known before any condition is.
  expand =
    v:
    if kind v == "if" then
      map (b.mapAttrs (_: lib.mkIf v.condition)) (expand v.content)
    else if kind v == "merge" then
      b.concatMap expand v.contents
    else if kind v == "override" then
      map (b.mapAttrs (_: lib.mkOverride v.priority)) (expand v.content)
    else
      [ v ];

  # name -> definitions of that member
  gather = definitions: b.zipAttrsWith (_: values: values) (b.concatMap expand definitions);

  mergeAs =
    place: type: definitions:
    let
      values = winners definitions;
      wrong = b.filter (v: !type.check v) values;
    in
    if wrong == [ ] then type.merge place values else throw "${place}: a ${b.typeOf (b.head wrong)} is no ${type.name}";

  mergeOption =
    place: option: definitions:
    let
      all =
        definitions
        ++ lib.optional (option ? default) (lib.mkOverride ofDefault option.default);
    in
    if option.readOnly or false && b.length (winners definitions) > 1 then
      throw "${place} is read-only"
    else if winners all != [ ] then
      mergeAs place option.type all
    else
      option.type.empty or (throw "${place} is used, and has no value");

  # The values of a tree of options. What is not declared goes to `free`, or is an error that names it.
  evalOptions =
    place: options: free: definitions:
    let
      kids = gather definitions;
      at = n: if place == "" then n else "${place}.${n}";
      declared = b.mapAttrs (
        n: o:
        if isOption o then
          mergeOption (at n) o (kids.${n} or [ ])
        else
          evalOptions (at n) o free (kids.${n} or [ ])
      ) options;
      rest = b.filter (n: !(options ? ${n}) && n != "_type") (b.attrNames kids);
      extra = b.filter (n: winners kids.${n} != [ ]) rest;
      typed = free.inner or free;
    in
    if free == null then
      declared
    else
      declared // lib.genAttrs extra (n: mergeAs (at n) typed kids.${n});

  # The names that are defined and declared nowhere. Apart from the values: a condition may need those.
  undeclared =
    place: options: definitions:
    let
      kids = gather definitions;
      at = n: if place == "" then n else "${place}.${n}";
    in
    b.concatMap (
      n:
      if !(options ? ${n}) then
        lib.optional (winners kids.${n} != [ ]) (at n)
      else if isOption options.${n} then
        [ ]
      else
        undeclared (at n) options.${n} kids.${n}
    ) (b.attrNames kids);

  join = b.foldl' (
    all: more:
    all
    // b.mapAttrs (n: o: if all ? ${n} && !isOption o && !isOption all.${n} then join [ all.${n} o ] else o) more
  ) { };

  # { modules, args } -> { config, options }
  eval =
    { modules, args }:
    let
      load =
        m:
        let
          module = if b.isPath m then import m else m;
          loaded = if b.isFunction module then module (args // { inherit config lib; }) else module;
        in
        [ loaded ] ++ b.concatMap load (loaded.imports or [ ]);
      all = b.concatMap load modules;
      isPlain = m: !(m ? options || m ? config);
      options = join (map (m: m.options or { }) all);
      definitions = map (m: if isPlain m then removeAttrs m [ "imports" "meta" ] else m.config or { }) all;
      config = evalOptions "" options null definitions;
      unknown = undeclared "" options definitions;
    in
    {
      inherit options;
      config =
        if unknown == [ ] then config else throw "no such option: ${b.concatStringsSep ", " unknown}";
    };
in
{
  inherit
    eval
    evalOptions
    gather
    isOption
    mergeAs
    undeclared
    winners
    ;
}
