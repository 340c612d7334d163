# Nginx in front: HTTPS, and nothing held back.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkIf mkOption types;
  cfg = config.services.gateway;
  written = import ../written.nix;
  defaults = cfg.settings.defaults;
  routing = cfg.settings.routing or { };

  limit = cfg.settings.server.body_limit;
  bodyLimit = written.bytes (if limit == null then "32MiB" else limit);

  # The gateway's own limits are reached first: it says what was wrong, Nginx would say "504".
  waits = lib.filter (wait: wait != null) (
    map written.seconds (
      lib.filter (wait: wait != null) (
        [
          (if defaults.timeout == null then "600s" else defaults.timeout)
          defaults.stream_timeout
          # For all attempts of a call together.
          (routing.deadline or "600s")
        ]
        ++ lib.concatMap (model: [
          (model.timeout or null)
          (model.stream_timeout or null)
        ]) (cfg.settings.models or [ ])
      )
    )
  );
  # A call may stand in the queue first.
  queued = if routing ? queue then written.seconds (routing.queue.timeout or "60s") else 0;
  patience = toString (lib.foldl' lib.max 0 waits + (if queued == null then 0 else queued) + 60);
in
{
  options.services.gateway.nginx = {
    enable = mkOption {
      type = types.bool;
      default = false;
      description = "Serve the gateway through Nginx, with HTTPS.";
    };
    virtualHost = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "llm.home.example";
      description = "The name of the host. More of it is set at `services.nginx.virtualHosts`.";
    };
    acme = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Get the certificate by ACME (`security.acme`). If not, set `sslCertificate` and `sslCertificateKey`, or
        `useACMEHost`, at `services.nginx.virtualHosts`.
      '';
    };
  };

  config = mkIf (cfg.enable && cfg.nginx.enable && cfg.nginx.virtualHost != null) {
    # Nginx alone may open it.
    services.gateway.settings.server.trusted_proxies = mkDefault [ "unix" ];

    services.nginx = {
      enable = true;
      virtualHosts.${cfg.nginx.virtualHost} = {
        forceSSL = mkDefault true;
        enableACME = mkIf cfg.nginx.acme (mkDefault true);
        locations."/" = {
          proxyPass = "http://unix:/run/gateway.sock";
          # All that matters is below; the recommended headers would pass on what a caller made up.
          recommendedProxySettings = false;
          extraConfig = ''
            # Every event of a stream goes on at once, a large body while it is still coming in.
            proxy_buffering off;
            proxy_request_buffering off;
            gzip off;
            client_max_body_size ${toString bodyLimit};

            # A connection for each call: one kept over a restart of the gateway would be found dead by a caller.
            proxy_http_version 1.1;
            proxy_set_header Connection close;
            proxy_next_upstream off;

            # Longer than the gateway's own.
            proxy_connect_timeout 60s;
            proxy_read_timeout ${patience}s;
            proxy_send_timeout ${patience}s;
            send_timeout ${patience}s;

            # Set anew, never added to: what a caller claims to be is not passed on.
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $host;
            proxy_set_header Forwarded "";
          '';
        };
      };
    };
  };
}
