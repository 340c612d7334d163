# MCP servers and Home Assistant.
#
# A server that speaks over its standard input and output gets units of its own, `gateway-mcp-NAME.socket` and
# `gateway-mcp-NAME@.service`: systemd starts one process for each connection of the gateway and hands the connection
# to it as input and output. So it has a user of its own and none of the gateway's secrets, and may do what the gateway
# may not: a language with a compiler at run time cannot live under the gateway's MemoryDenyWriteExecute=.
{ config, lib, ... }:
let
  inherit (lib) mkIf mkOption types;
  cfg = config.services.gateway;
  quote = import ../quote.nix;
  programs = lib.filterAttrs (_: server: server.command != [ ]) cfg.mcpServers;
  socket = name: "/run/gateway-mcp/${name}.sock";

  server =
    name: value:
    removeAttrs value [
      "command"
      "path"
      "environment"
      "environmentFile"
      "url"
    ]
    // (if value.command != [ ] then { socket = socket name; } else { inherit (value) url; });
in
{
  options.services.gateway = {
    mcpServers = mkOption {
      default = { };
      description = ''
        MCP servers whose tools the gateway offers: at an address (`url`), or a program (`command`). Other fields are
        passed on to `gateway.toml`, see docs/mcp.md. A key needs a grant: `keys.<name>.object_permission.mcp_servers`.
      '';
      example = lib.literalExpression ''
        {
          search = { url = "https://search.home.example/mcp"; auth_value = "env:SEARCH_TOKEN"; };
          files = { command = [ (lib.getExe pkgs.mcp-server-filesystem) "/srv/share" ]; };
        }
      '';
      type = types.attrsOf (
        types.submodule {
          freeformType = types.attrsOf types.anything;
          options = {
            url = mkOption {
              type = types.nullOr types.str;
              default = null;
              description = "Address of the server.";
            };
            command = mkOption {
              type = types.listOf types.str;
              default = [ ];
              description = "Program that speaks MCP over its standard input and output, with its arguments.";
            };
            path = mkOption {
              type = types.listOf types.package;
              default = [ ];
              description = "Packages that the program calls.";
            };
            environment = mkOption {
              type = types.attrsOf types.str;
              default = { };
              description = "Variables of the program; no secrets.";
            };
            environmentFile = mkOption {
              type = types.nullOr types.path;
              default = null;
              description = "File of `NAME=value` lines for the program alone, outside of the store.";
            };
          };
        }
      );
    };

    homeAssistant = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = "Offer the tools of Home Assistant, to keys with a grant. More fields: `settings.home_assistant`.";
      };
      url = mkOption {
        type = types.str;
        default = "http://127.0.0.1:8123";
        example = "http://homeassistant.home.example:8123";
        description = "Address of Home Assistant, without a path.";
      };
      api = mkOption {
        type = types.str;
        default = "assist";
        description = "Which of its tool sets. `assist` needs no admin; Home Assistant serves it apart since 2026.9.";
      };
      token = mkOption {
        type = types.str;
        default = "env:HOME_ASSISTANT_TOKEN";
        description = "Its long-lived access token, as a reference.";
      };
      tokenFile = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = "File that holds the token; becomes `HOME_ASSISTANT_TOKEN`.";
      };
    };
  };

  config = mkIf cfg.enable {
    services.gateway = {
      settings.mcp_servers = mkIf (cfg.mcpServers != { }) (lib.mapAttrs server cfg.mcpServers);
      settings.home_assistant = mkIf cfg.homeAssistant.enable {
        inherit (cfg.homeAssistant) url api token;
      };
      secrets.files = mkIf (cfg.homeAssistant.enable && cfg.homeAssistant.tokenFile != null) {
        HOME_ASSISTANT_TOKEN = cfg.homeAssistant.tokenFile;
      };
    };

    systemd.sockets = lib.mapAttrs' (
      name: _:
      lib.nameValuePair "gateway-mcp-${name}" {
        description = "MCP server ${name} of the gateway";
        wantedBy = [ "sockets.target" ];
        listenStreams = [ (socket name) ];
        socketConfig = {
          Accept = true;
          SocketMode = "0600";
          SocketUser = "gateway";
          SocketGroup = "gateway";
          DirectoryMode = "0755";
          # A process each.
          MaxConnections = 16;
          TriggerLimitIntervalSec = 0;
        };
      }
    ) programs;

    systemd.services = lib.mapAttrs' (
      name: program:
      lib.nameValuePair "gateway-mcp-${name}@" {
        description = "MCP server ${name} of the gateway";
        inherit (program) path environment;
        # A switch cannot start a process for a connection: the old one goes on until its connection ends.
        restartIfChanged = false;
        # A process that failed is forgotten; the gateway connects again.
        unitConfig.CollectMode = "inactive-or-failed";
        serviceConfig = import ../hardening.nix // {
          ExecStart = quote.execLine program.command;
          StandardInput = "socket";
          StandardOutput = "socket";
          StandardError = "journal";
          DynamicUser = true;
          User = "gateway-mcp-${name}";
          EnvironmentFile = lib.mkIf (program.environmentFile != null) (quote.plain program.environmentFile);
          # Node, Python with numpy, Java: they make code at run time, and want to see their processors.
          MemoryDenyWriteExecute = false;
          ProcSubset = "all";
          # The gateway's own files are not its business.
          InaccessiblePaths = [
            "-/run/gateway"
            "-/run/gateway-secrets"
            "-/var/lib/gateway"
          ];
          TasksMax = 256;
          TimeoutStopSec = "10s";
          OOMScoreAdjust = 500;
        };
      }
    ) programs;
  };
}
