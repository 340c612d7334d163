# The part of nixpkgs' `lib` that the module uses, under the same names. Written for the tests: nixpkgs cannot be
# reached where they run. A function that is missing here fails the evaluation by its name; add it then.
let
  b = builtins;
  types = import ./types.nix { inherit lib; };
  typed = type: value: { _type = type; } // value;
  lib = {
    inherit types;
    inherit (b)
      all
      attrNames
      concatLists
      concatMap
      concatStringsSep
      elem
      elemAt
      filter
      foldl'
      head
      isAttrs
      isList
      isString
      length
      listToAttrs
      mapAttrs
      replaceStrings
      ;

    # Options and properties.
    mkOption = typed "option";
    mkEnableOption = what: lib.mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
    mkIf = condition: content: typed "if" { inherit condition content; };
    mkMerge = contents: typed "merge" { inherit contents; };
    mkOverride = priority: content: typed "override" { inherit priority content; };
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;
    literalExpression = text: typed "literal" { inherit text; };
    literalMD = text: typed "literalMD" { inherit text; };

    # Lists.
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    intersectLists = wanted: b.filter (v: b.elem v wanted);
    imap0 = f: list: b.genList (i: f i (b.elemAt list i)) (b.length list);
    unique = b.foldl' (seen: v: if b.elem v seen then seen else seen ++ [ v ]) [ ];
    last = list: b.elemAt list (b.length list - 1);
    init = list: b.genList (b.elemAt list) (b.length list - 1);
    max = x: y: if x > y then x else y;

    # Attributes.
    optionalAttrs = condition: attrs: if condition then attrs else { };
    attrValues = b.attrValues;
    filterAttrs = keep: attrs: lib.genAttrs (b.filter (n: keep n attrs.${n}) (b.attrNames attrs)) (n: attrs.${n});
    genAttrs = names: f: b.listToAttrs (map (n: lib.nameValuePair n (f n)) names);
    mapAttrsToList = f: attrs: map (n: f n attrs.${n}) (b.attrNames attrs);
    mapAttrs' = f: attrs: b.listToAttrs (lib.mapAttrsToList f attrs);
    nameValuePair = name: value: { inherit name value; };

    # Texts.
    optionalString = condition: text: if condition then text else "";
    concatMapStringsSep = separator: f: list: b.concatStringsSep separator (map f list);
    hasPrefix = part: text: b.substring 0 (b.stringLength part) text == part;
    hasInfix = part: text: b.replaceStrings [ part ] [ "" ] text != text;
    removePrefix =
      part: text:
      if lib.hasPrefix part text then b.substring (b.stringLength part) (b.stringLength text) text else text;
    splitLines = text: b.filter b.isString (b.split "\n" text);
    toUpper = b.replaceStrings lib.small lib.large;
    toLower = b.replaceStrings lib.large lib.small;
    small = lib.letters "abcdefghijklmnopqrstuvwxyz";
    large = lib.letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    letters = text: b.genList (i: b.substring i 1 text) (b.stringLength text);

    # Packages.
    getExe = package: lib.getExe' package package.meta.mainProgram;
    getExe' = package: name: "${package}/bin/${name}";
    versionAtLeast = version: wanted: b.compareVersions version wanted >= 0;
  };
in
lib
