# The options of NixOS that the module writes to. A name that is misspelt in the module fails here, as it would there;
# that the names are those of NixOS was read in its manual, not tried.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  texts = option (types.listOf types.str) [ ];
  text = option types.str "";
  yes = option types.bool true;
  no = option types.bool false;
  free = option (types.attrsOf types.anything) { };
  each = options: mkOption {
    type = types.attrsOf (types.submodule { inherit options; });
    default = { };
  };

  unit = {
    description = text;
    documentation = texts;
    wantedBy = texts;
    requires = texts;
    wants = texts;
    after = texts;
    before = texts;
    unitConfig = free;
  };
in
{
  options = {
    assertions = option (types.listOf types.anything) [ ];
    warnings = texts;

    users.users = each {
      isSystemUser = no;
      group = text;
      home = text;
    };
    users.groups = option (types.attrsOf types.anything) { };
    environment.systemPackages = option (types.listOf types.package) [ ];
    networking.firewall.allowedTCPPorts = option (types.listOf types.port) [ ];

    systemd.package = option types.package {
      outPath = "/usr";
      version = "257";
    };
    systemd.tmpfiles.rules = texts;
    systemd.services = each (
      unit
      // {
        serviceConfig = free;
        environment = option (types.attrsOf types.str) { };
        path = option (types.listOf types.package) [ ];
        stopIfChanged = yes;
        restartIfChanged = yes;
      }
    );
    systemd.sockets = each (
      unit
      // {
        listenStreams = texts;
        socketConfig = free;
      }
    );
    systemd.timers = each (unit // { timerConfig = free; });

    services.postgresql = {
      enable = no;
      package = option types.package { outPath = "/usr"; };
      settings.port = option types.port 5432;
      ensureDatabases = texts;
      ensureUsers = option (types.listOf (
        types.submodule {
          options = {
            name = text;
            ensureDBOwnership = no;
          };
        }
      )) [ ];
    };
    services.nginx = {
      enable = no;
      group = option types.str "nginx";
      virtualHosts = each {
        forceSSL = no;
        enableACME = no;
        sslCertificate = text;
        sslCertificateKey = text;
        locations = each {
          proxyPass = text;
          recommendedProxySettings = yes;
          extraConfig = option types.lines "";
        };
      };
    };
    services.restic.backups = each {
      paths = texts;
      repository = text;
      passwordFile = text;
    };
    security.acme = {
      acceptTerms = no;
      defaults.email = text;
    };
  };
}
