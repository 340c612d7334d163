# What cannot work, each with its cure. What gateway.toml may say is the program's to check.
{ config, lib, ... }:
let
  cfg = config.services.gateway;
  inherit (lib) concatStringsSep optional;
  written = import ../written.nix;

  guard = import ./guard.nix { inherit lib; };
  writtenOut = guard.places cfg.settings;
  writtenInUnits =
    map (place: "mcpServers.${place}") (
      guard.places (lib.mapAttrs (_: server: { inherit (server) environment; }) cfg.mcpServers)
    )
    ++ lib.concatLists (
      lib.mapAttrsToList (
        name: server: optional (guard.words server.command != [ ]) "mcpServers.${name}.command"
      ) cfg.mcpServers
    )
    ++ optional (guard.words cfg.secrets.command != [ ]) "secrets.command";

  # Files that hold secrets, by the option that names them.
  files =
    optional (cfg.environmentFile != null) {
      option = "environmentFile";
      path = cfg.environmentFile;
    }
    ++ optional (cfg.secrets.onePassword.tokenFile != null) {
      option = "secrets.onePassword.tokenFile";
      path = cfg.secrets.onePassword.tokenFile;
    }
    ++ lib.mapAttrsToList (name: path: {
      option = "secrets.files.${name}";
      inherit path;
    }) cfg.secrets.files
    ++ lib.concatLists (
      lib.mapAttrsToList (
        name: server:
        optional (server.environmentFile != null) {
          option = "mcpServers.${name}.environmentFile";
          path = server.environmentFile;
        }
      ) cfg.mcpServers
    );
  inStore = lib.filter (file: builtins.isPath file.path || lib.hasPrefix builtins.storeDir (toString file.path)) files;

  references = cfg.secrets.onePassword.references;
  notOp = lib.filter (name: builtins.match "op://[^/]+/[^/]+/.+" references.${name} == null) (lib.attrNames references);
  variables = lib.attrNames cfg.secrets.files ++ lib.attrNames references;
  notNames = lib.filter (name: builtins.match "[A-Za-z_][A-Za-z0-9_]*" name == null) variables;
  twice = lib.intersectLists (lib.attrNames cfg.secrets.files) (lib.attrNames references);

  # Variables that the settings refer to, and that nothing brings. Home Assistant's token has an assertion of its own.
  lost = lib.filter (
    reference:
    !cfg.secrets.mayHave reference.name
    && !((cfg.settings.environment or { }) ? ${reference.name})
    && !(config.systemd.services.gateway-config.environment ? ${reference.name})
    && reference.place != "home_assistant.token"
  ) (import ./references.nix { inherit lib; } cfg.settings);

  keysWithFile = lib.filterAttrs (_: key: key.file != null) cfg.keys;
  keysApart = lib.attrNames (
    lib.filterAttrs (_: key: key.key == null || !lib.hasPrefix "env:" key.key) keysWithFile
  );

  isLoopback = lib.hasPrefix "127." cfg.host || lib.elem cfg.host [ "localhost" "::1" "[::1]" ];
  # For this machine alone, as the program sees it: unix sockets, and addresses of the loopback.
  isLocal = address: builtins.match "[/@].*|127[.][0-9.]+:[0-9]+|\\[::1]:[0-9]+" address != null;
  # What is beyond this machine: another address, or Nginx, which answers for everybody.
  isOpen = !isLoopback || cfg.nginx.enable || !lib.all isLocal cfg.listen;
  # Two of them cannot be opened at the same time: the same twice, or every address and one of them at the same port.
  addresses = config.systemd.sockets.gateway.listenStreams;
  portOf =
    address:
    let
      parts = builtins.match "(.*:)?([0-9]+)" address;
    in
    if parts == null then null else lib.last parts;
  isEvery = address: builtins.match "(0[.]0[.]0[.]0:|\\[::]:)?[0-9]+" address != null;
  clash = a: b: a == b || (portOf a != null && portOf a == portOf b && (isEvery a || isEvery b));
  clashing = lib.unique (lib.filter (a: lib.length (lib.filter (clash a) addresses) > 1) addresses);
  ipv4 = "[0-9]+([.][0-9]+){3}";
  ipv6 = "\\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?]?";
  isAddress = builtins.match "localhost|${ipv4}|${ipv6}" cfg.host != null;

  badServers = lib.filter (name: builtins.match "[a-z][a-z0-9-]{0,17}" name == null) (lib.attrNames cfg.mcpServers);
  vagueServers = lib.attrNames (
    lib.filterAttrs (_: server: (server.url != null) == (server.command != [ ])) cfg.mcpServers
  );
  ha = cfg.homeAssistant;

  claim = assertion: message: {
    inherit assertion;
    message = "services.gateway${message}";
  };
in
{
  config = lib.mkIf cfg.enable {
    assertions = [
      (claim (inStore == [ ]) (
        ": ${concatStringsSep ", " (map (file: file.option) inStore)} names a file in the Nix store, which everybody "
        + "on this machine can read; put the file elsewhere (by sops-nix, agenix, or by hand into /etc/gateway with mode "
        + "0600) and give its path as a text in quotes."
      ))
      (claim (writtenOut == [ ]) (
        ".settings: there seems to be a secret at ${concatStringsSep ", " writtenOut}, and settings lie in the Nix "
        + "store, which everybody on this machine can read; write \"env:NAME\" there, and give NAME a source by "
        + "services.gateway.secrets or environmentFile."
      ))
      (claim isAddress (
        ".host: \"${cfg.host}\" is no address, and systemd looks no name up; write the address, such as "
        + "\"192.168.1.2\", or \"::\" for all of them."
      ))
      (claim (clashing == [ ]) (
        ".listen: ${concatStringsSep ", " clashing} cannot be opened beside each other; leave one of them out. "
        + "host:port and /run/gateway.sock are always there."
      ))
      (claim (!isOpen || cfg.settings.master_key != null || cfg.settings.allow_anonymous == true) (
        ": it can be reached from outside of this machine, and there is no key to ask for; give GATEWAY_MASTER_KEY a "
        + "source (services.gateway.secrets or environmentFile), or set settings.allow_anonymous = true."
      ))
      (claim (lost == [ ]) (
        ".settings: nothing brings ${concatStringsSep ", " (map (r: "${r.name} (${r.place})") lost)}; add it to "
        + "services.gateway.secrets.files or secrets.onePassword.references, or set environmentFile; for a key of "
        + "services.gateway.keys set its file."
      ))
      (claim (!cfg.nginx.enable || cfg.nginx.virtualHost != null) (
        ".nginx: no name to serve is set; set nginx.virtualHost, such as \"llm.home.example\"."
      ))
      (claim (!(cfg.openFirewall && isLoopback && !cfg.nginx.enable && lib.all isLocal cfg.listen)) (
        ".openFirewall: port ${toString cfg.port} would be open, but ${cfg.host} is for this machine alone; set "
        + "nginx.enable, or host = \"0.0.0.0\", or leave openFirewall out."
      ))
      (claim (!(cfg.settings ? server.listen)) (
        ".settings.server.listen: systemd listens, so this is not used; set services.gateway.host, port or listen."
      ))
      (claim (!(cfg.settings ? state_dir)) (
        ".settings.state_dir: the unit may write to /var/lib/gateway alone; leave it out."
      ))
      (claim (!(cfg.settings ? server.idle_timeout)) (
        ".settings.server.idle_timeout: the socket has to know of it, or who comes while the gateway ends is refused; "
        + "set services.gateway.idleTimeout."
      ))
      (claim (cfg.idleTimeout == null || written.seconds cfg.idleTimeout != null) (
        ".idleTimeout: \"${toString cfg.idleTimeout}\" is no length of time; write it as \"15m\" or \"1h\"."
      ))
      (claim (cfg.idleTimeout == null || lib.versionAtLeast config.systemd.package.version "255") (
        ".idleTimeout: it needs systemd 255, and this is ${config.systemd.package.version}: an older one would refuse "
        + "who comes while the gateway ends; leave idleTimeout out, or use a newer nixpkgs."
      ))
      (claim (!(cfg.database.createLocally && cfg.database.url != null)) (
        ".database: createLocally and url exclude each other; leave one of them out."
      ))
      (claim (!cfg.backup.enable || cfg.database.createLocally || cfg.settings.database_url == null) (
        ".backup: the database is on another server; leave backup.enable out and back it up there. /var/lib/gateway is "
        + "in backup.paths in any case."
      ))
      (claim (references == { } || cfg.secrets.onePassword.tokenFile != null) (
        ".secrets.onePassword: there are references, but no token to ask with; set tokenFile to a file with the token "
        + "of a service account, such as \"/etc/gateway/op-token\" (mode 0600)."
      ))
      (claim (notOp == [ ]) (
        ".secrets.onePassword.references: ${concatStringsSep ", " notOp} is not of the form op://VAULT/ITEM/FIELD; "
        + "copy the reference from the field's menu in 1Password."
      ))
      (claim (notNames == [ ]) (
        ".secrets: ${concatStringsSep ", " notNames} is not the name of a variable; use letters, digits and _."
      ))
      (claim (twice == [ ]) (
        ".secrets: ${concatStringsSep ", " twice} has two sources; leave it out of files or of onePassword.references."
      ))
      (claim (keysApart == [ ]) (
        ".keys: ${concatStringsSep ", " keysApart} has a file, and a hash or a key that is no reference to it; leave one of "
        + "them out."
      ))
      (claim (writtenInUnits == [ ]) (
        ": there seems to be a secret in ${concatStringsSep ", " writtenInUnits}, and units lie in the Nix store, which "
        + "everybody on this machine can read; put it into a file, and have the program read it (mcpServers: set "
        + "environmentFile)."
      ))
      (claim (badServers == [ ]) (
        ".mcpServers: ${concatStringsSep ", " badServers} cannot be the name of a unit and a user; use at most 18 "
        + "small letters, digits and -, a letter first."
      ))
      (claim (vagueServers == [ ]) (
        ".mcpServers: ${concatStringsSep ", " vagueServers} needs either url or command; set one of them."
      ))
      (claim (!ha.enable || builtins.match "https?://[^/]+" ha.url != null) (
        ".homeAssistant.url: \"${ha.url}\" is not an address without a path; write it as \"http://host:8123\"."
      ))
      (claim (!ha.enable || ha.tokenFile == null || ha.token == "env:HOME_ASSISTANT_TOKEN") (
        ".homeAssistant: tokenFile and token exclude each other; leave one of them out."
      ))
      (claim (!ha.enable || ha.token != "env:HOME_ASSISTANT_TOKEN" || cfg.secrets.mayHave "HOME_ASSISTANT_TOKEN") (
        ".homeAssistant: there is no source for its token; make a long-lived access token on your profile page in Home "
        + "Assistant, and set tokenFile, or give HOME_ASSISTANT_TOKEN a source by services.gateway.secrets."
      ))
    ];
  };
}
