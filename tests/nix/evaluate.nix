# The smoke evaluation of module.nix: what tests/nix/eval and tests/nix.rs ask for. Everything is a text.
#
# Not NixOS: `shim/` stands in for nixpkgs, and knows only what the module uses. The program is taken to be in
# /usr/local and other programs in /usr, so the units that come of it run on Debian too.
let
  b = builtins;
  lib = import ./shim/lib.nix;
  modules = import ./shim/modules.nix { inherit lib; };
  print = import ./shim/print.nix { inherit lib; };
  toml = {
    type = lib.types.attrsOf lib.types.anything;
    # Nothing is written: a value that says where it would be.
    generate = name: value: { outPath = "/etc/gateway/${name}"; };
  };
  installed = outPath: name: {
    inherit outPath;
    meta.mainProgram = name;
  };
  pkgs = {
    formats.toml = _: toml;
    runtimeShell = "/bin/sh";
    coreutils = installed "/usr" "coreutils";
    _1password-cli = installed "/usr/local" "op";
    callPackage = _: _: installed "/usr/local" "gateway";
    # The command of the build is not run; tests/nix.rs has the program check the same text.
    runCommand = name: _: _: { outPath = "/etc/gateway/${name}"; };
    stdenv.buildPlatform.canExecute = _: true;
    stdenv.hostPlatform = { };
  };
  evaluate =
    case:
    modules.eval {
      args = { inherit pkgs; };
      modules = [
        ./shim/system.nix
        ../../module.nix
        case
      ];
    };
  clean =
    v:
    if b.isAttrs v then
      b.mapAttrs (_: clean) (lib.filterAttrs (_: x: x != null) v)
    else if b.isList v then
      map clean v
    else
      v;
  set = v: lib.filterAttrs (_: x: x != "" && x != [ ] && x != false && x != { }) v;

  # What NixOS makes of the rest of the system, without what nobody set.
  system =
    config:
    print.flat (set {
      assertions = map (a: a.message) (b.filter (a: !a.assertion) config.assertions);
      inherit (config) warnings;
      environment.systemPackages = map toString config.environment.systemPackages;
      inherit (config) networking users;
      systemd.tmpfiles = config.systemd.tmpfiles;
      services = {
        nginx = lib.optionalAttrs config.services.nginx.enable config.services.nginx;
        postgresql = lib.optionalAttrs config.services.postgresql.enable (
          removeAttrs config.services.postgresql [ "package" "settings" ]
        );
        restic = config.services.restic;
        gateway.backup.paths = config.services.gateway.backup.paths;
      };
    });
  case =
    module:
    let
      config = (evaluate module).config;
      hosts = lib.attrValues config.services.nginx.virtualHosts;
    in
    lib.mapAttrs' (n: text: lib.nameValuePair "units/${n}" text) (print.units config)
    // {
      "files/etc/gateway/gateway.toml" = print.toml (clean config.services.gateway.settings);
      "system.txt" = system config;
    }
    // lib.optionalAttrs (hosts != [ ]) {
      "nginx-location.conf" =
        let
          location = (b.head hosts).locations."/";
        in
        "location / {\nproxy_pass ${location.proxyPass};\n${location.extraConfig}}\n";
    };

  failing = b.mapAttrs (_: module: (evaluate module).config.assertions) (import ./failing.nix);
  messages = assertions: map (a: a.message) (b.filter (a: !a.assertion) assertions);
  # Which of them fail, by place, so that none is without its configuration.
  places = assertions: b.filter (i: !(b.elemAt assertions i).assertion) (b.genList (i: i) (b.length assertions));
  all = b.length (b.head (lib.attrValues failing));
  reached = b.concatMap places (lib.attrValues failing);

  # Many texts as one: a line `@@ NAME` before each.
  bundle = texts: b.concatStringsSep "" (lib.mapAttrsToList (n: text: "@@ ${n}\n${text}") texts);
  cases = b.mapAttrs (_: case) (import ./cases.nix);
in
{
  # One configuration of any kind.
  of = module: bundle (case module);
  cases = b.mapAttrs (_: bundle) cases;
  # All of them at once: an evaluation costs most at its start.
  golden = bundle (
    b.foldl' (texts: more: texts // more) { } (
      lib.mapAttrsToList (n: lib.mapAttrs' (file: lib.nameValuePair "${n}/${file}")) cases
    )
    // {
      "assertions.txt" = b.concatStringsSep "\n" (
        lib.mapAttrsToList (n: a: "${n}\n${lib.concatMapStringsSep "" (m: "    ${m}\n") (messages a)}") failing
      );
    }
  );
  # Empty, if for each assertion there is a configuration that it refuses.
  unreached = b.filter (i: !b.elem i reached) (b.genList (i: i) all);
  options = import ./options.nix { inherit lib print; } (evaluate { }).options.services.gateway;
}
