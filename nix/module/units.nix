# The socket, the configuration and the daemon.
#
#   gateway-secrets.service -> gateway-config.service -> gateway.service <- gateway.socket
#
# The daemon *wants* the chain and comes after it, so no restart of a link stops it. What goes on without it:
# - A switch reloads units before it restarts others. So nothing of gateway.service names the settings: gateway-config
#   is what changes with them, copies them to the stable path, and asks the running gateway to read it.
# - The links write into directories that outlive them (RuntimeDirectoryPreserve=), so any may be restarted at any time.
{ config, lib, pkgs, ... }:
let
  inherit (lib) optional;
  cfg = config.services.gateway;
  gateway = lib.getExe cfg.package;
  hardening = import ../hardening.nix;
  quote = import ../quote.nix;
  seconds = (import ../written.nix).seconds;
  rendered = "/run/gateway/gateway.toml";
  secrets = lib.optionalString cfg.secrets.present " --env-file /run/gateway-secrets/env";
  install = lib.getExe' pkgs.coreutils "install";
  mv = lib.getExe' pkgs.coreutils "mv";
  # systemd looks no name up, and wants an address of IPv6 in brackets.
  host =
    if cfg.host == "localhost" then
      "127.0.0.1"
    else if lib.hasInfix ":" cfg.host && !lib.hasPrefix "[" cfg.host then
      "[${cfg.host}]"
    else
      cfg.host;
  drain = seconds (if cfg.settings.server.drain == null then 30 else cfg.settings.server.drain);
  idle = cfg.idleTimeout != null;
  # One word, though it may be written as two.
  idleTimeout = lib.optionalString idle " --idle-timeout ${lib.replaceStrings [ " " ] [ "" ] cfg.idleTimeout}";
in
{
  config = lib.mkIf cfg.enable {
    users.users.gateway = {
      isSystemUser = true;
      group = "gateway";
      home = "/var/lib/gateway";
    };
    users.groups.gateway = { };

    # `gateway doctor`, `gateway check`, the manual page.
    environment.systemPackages = [ cfg.package ];

    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall (
      if cfg.nginx.enable then
        [
          80
          443
        ]
      else
        [ cfg.port ]
    );

    systemd.sockets.gateway = {
      description = "Addresses of the gateway";
      wantedBy = [ "sockets.target" ];
      listenStreams = [
        (quote.plain "${host}:${toString cfg.port}")
        "/run/gateway.sock"
      ]
      ++ cfg.listen;
      # It is opened anew as often as somebody wants.
      unitConfig.StartLimitIntervalSec = 0;
      socketConfig = {
        FileDescriptorName = "gateway";
        # Of a network that is not up yet.
        FreeBind = true;
        Backlog = 4096;
        SocketMode = "0660";
        SocketUser = "gateway";
        SocketGroup = if cfg.nginx.enable then config.services.nginx.group else "gateway";
        # Whoever waits while the chain is broken is sent away, and the socket stays. Not so where the gateway ends by
        # itself: who came at that moment must be kept. There the queue is looked at less often instead (systemd 255).
        FlushPending = !idle;
      }
      // lib.optionalAttrs idle {
        TriggerLimitIntervalSec = 0;
        PollLimitIntervalSec = "2s";
        PollLimitBurst = 15;
      };
    };

    # What a switch of NixOS passes over. It is not left running, so each switch starts it again with its targets.
    # - A socket that has changed: another port, or the group of an Nginx that is new, would be in force after the next
    #   boot only.
    # - A unit that has failed: what was mended would wait for the timer.
    systemd.services.gateway-switch = {
      description = "What a switch leaves to do for the gateway";
      wantedBy = [ "multi-user.target" ];
      after = [ "gateway.socket" ];
      serviceConfig = hardening // {
        Type = "oneshot";
        RuntimeDirectory = "gateway-switch";
        RuntimeDirectoryMode = "0700";
        RuntimeDirectoryPreserve = true;
        RestrictAddressFamilies = [ "AF_UNIX" ];
        # Open calls finish before a socket is opened anew; the fetch of secrets has its own limit.
        TimeoutStartSec = "10min";
        ExecStart = quote.execLine (
          [
            pkgs.runtimeShell
            "-euc"
            # Only where there were other addresses before: not at boot, and not with another change.
            ''
              known=$RUNTIME_DIRECTORY/known
              if [ -e "$known" ] && [ "$(cat "$known")" != "$1" ]; then systemctl try-restart gateway.socket; fi
              printf %s "$1" >"$known"
              shift
              for unit; do
                shift
                if systemctl is-failed --quiet "$unit"; then set -- "$@" "$unit"; fi
              done
              [ $# = 0 ] || systemctl start "$@"
            ''
            "switch"
            (builtins.hashString "sha256" (
              builtins.toJSON { inherit (config.systemd.sockets.gateway) listenStreams socketConfig; }
            ))
          ]
          ++ optional cfg.secrets.present "gateway-secrets.service"
          ++ [ "gateway-config.service" ]
        );
      };
    };

    systemd.services.gateway-config = {
      description = "Configuration of the gateway";
      wants = optional cfg.secrets.present "gateway-secrets.service";
      after = optional cfg.secrets.present "gateway-secrets.service";
      before = [ "gateway.service" ];
      # In one step: what is served must not vanish for the time of a switch.
      stopIfChanged = false;
      unitConfig.OnFailure = "gateway-config-retry.timer";
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening // {
        Type = "oneshot";
        RemainAfterExit = true;
        User = "gateway";
        Group = "gateway";
        RuntimeDirectory = "gateway";
        RuntimeDirectoryMode = "0750";
        RuntimeDirectoryPreserve = true;
        # A file that the secrets do not fit stops here, and the old one stays.
        ExecStart = [
          "${gateway} check --config ${cfg.configFile}${secrets}"
          "${install} -m 0440 -T ${cfg.configFile} ${rendered}.new"
          "${mv} -fT ${rendered}.new ${rendered}"
        ];
        # Without the sandbox: a setting that a reload cannot change has systemd restart the gateway.
        ExecStartPost = "+${gateway} reload --if-running --or-restart gateway.service --state-dir /run/gateway";
        TimeoutStartSec = "2min";
      };
    };

    systemd.timers.gateway-config-retry = import ../retry.nix "gateway-config.service";

    systemd.services.gateway = {
      description = "Gateway to language models";
      documentation = [ "man:gateway(1)" ];
      requires = [ "gateway.socket" ];
      wants = [ "gateway-config.service" ] ++ optional cfg.secrets.present "gateway-secrets.service";
      after = [
        "network.target"
        "gateway.socket"
        "gateway-config.service"
      ]
      ++ optional cfg.secrets.present "gateway-secrets.service";
      # Stopped and started it would take its socket with it, and refuse who comes in between.
      stopIfChanged = false;
      # Starts by hand, by the socket and by Restart= count alike, and a limit that is hit stops the socket too.
      unitConfig.StartLimitIntervalSec = 0;
      serviceConfig = hardening // {
        Type = "notify";
        NotifyAccess = "main";
        User = "gateway";
        Group = "gateway";
        StateDirectory = "gateway";
        StateDirectoryMode = "0700";
        RuntimeDirectory = "gateway";
        RuntimeDirectoryMode = "0750";
        RuntimeDirectoryPreserve = true;
        ExecStart = "${gateway} serve --config ${rendered}${secrets}${idleTimeout}";
        ExecReload = "${gateway} reload --state-dir /run/gateway";
        WatchdogSec = "30s";
        TimeoutStartSec = "30s";
        # Open calls may finish; then there are a few seconds to end the rest in order.
        TimeoutStopSec = "${toString ((if drain == null then 30 else drain) + 15)}s";
        KillMode = "mixed";
        Restart = "on-failure";
        # Each start tries the failed links of the chain again, more and more slowly (systemd 254).
        RestartSec = "500ms";
        RestartSteps = 8;
        RestartMaxDelaySec = "30s";
        LimitNOFILE = 65536;
        OOMPolicy = "stop";
      };
    };
  };
}
