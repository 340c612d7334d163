# Six configurations that are evaluated to units, each compared with tests/nix/golden/NAME.
#
# They are written as an operator would write them: only what is not the default.
{
  # The least there is: a model of one's own, for this machine.
  minimal = {
    services.gateway = {
      enable = true;
      models = [
        {
          name = "local";
          model = "ollama/qwen3:8b";
        }
      ];
    };
  };

  # For the house without Nginx, with an env file that sops-nix or agenix brings.
  lan = {
    services.gateway = {
      enable = true;
      host = "::";
      port = 4100;
      listen = [ "/run/apps/gateway.sock" ];
      openFirewall = true;
      environmentFile = "/run/secrets/gateway.env";
      settings.server.drain = "2m";
      settings.log.level = "debug";
      models = [
        {
          name = "fast";
          model = "groq/llama-3.3-70b-versatile";
        }
      ];
    };
  };

  # docs/nixos.md: HTTPS, 1Password, Postgres, Home Assistant, Restic.
  house = {
    security.acme.acceptTerms = true;
    security.acme.defaults.email = "me@home.example";
    services.restic.backups.nas.repository = "rest:http://nas.home.example:8000/";
    services.restic.backups.nas.passwordFile = "/etc/restic/password";
    services.gateway = {
      enable = true;
      openFirewall = true;
      nginx.enable = true;
      nginx.virtualHost = "llm.home.example";
      database.createLocally = true;
      backup.enable = true;
      backup.directory = "/srv/100% a share";
      backup.restic = [ "nas" ];
      secrets.onePassword = {
        tokenFile = "/etc/gateway/op-token";
        references = {
          GATEWAY_MASTER_KEY = "op://Homelab/Gateway/credential";
          GROQ_API_KEY = "op://Homelab/Groq $1 100%/credential";
          GATEWAY_KEY_PHONE = "op://Homelab/Phone/credential";
          HOME_ASSISTANT_TOKEN = "op://Homelab/Home Assistant/token";
        };
      };
      keys.phone = {
        models = [ "fast" ];
        max_budget = 5;
        budget_duration = "30d";
        user_id = "ann";
        object_permission.mcp_servers = [
          "files"
          "home_assistant"
        ];
      };
      homeAssistant.enable = true;
      mcpServers.files = {
        command = [
          "/usr/local/bin/mcp-files"
          "/srv/a share"
          "100%"
        ];
        environmentFile = "/etc/gateway/files.env";
      };
      settings.users.ann.user_email = "ann@home.example";
      settings.server.body_limit = "48MiB";
      settings.defaults.timeout = "20m";
      settings.routing.deadline = "3h";
      settings.routing.queue.length = 50;
      # As a list that another program writes may come.
      settings.models = [
        {
          name = "slow";
          model = "openai_like/house-70b";
          api_base = "http://127.0.0.1:8080/v1";
          timeout = "2h";
        }
      ];
      models = [
        {
          name = "fast";
          model = "groq/llama-3.3-70b-versatile";
          stream_timeout = "1.5h";
        }
        {
          name = "openai/*";
          model = "openai/*";
        }
      ];
    };
  };

  # The gateway ends when nobody needs it. A secret is a file each, a unit brings them.
  idle = {
    services.gateway = {
      enable = true;
      idleTimeout = "15m";
      host = "localhost";
      backup.enable = true;
      backup.directory = "/var/backup/it's gateway";
      listen = [ "/run/apps/gateway.sock" ];
      secrets.files.GATEWAY_MASTER_KEY = "/run/opnix/master-key";
      secrets.files.OPENAI_API_KEY = "/run/opnix/100% openai";
      secrets.after = [ "opnix-secrets.service" ];
      models = [
        {
          name = "gpt";
          model = "openai/gpt-4o-mini";
        }
      ];
    };
  };

  # Tools, and Home Assistant by a token of its own. Keys by a file each, and by a hash.
  tools = {
    services.gateway = {
      enable = true;
      secrets.files.GATEWAY_MASTER_KEY = "/etc/gateway/master-key";
      homeAssistant.enable = true;
      homeAssistant.tokenFile = "/etc/gateway/home-assistant";
      keys.phone = {
        models = [ "local" ];
        file = "/etc/gateway/phone";
      };
      keys.laptop.hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
      mcpServers = {
        search.url = "https://search.home.example/mcp";
        files = {
          command = [
            "/usr/bin/mcp-files"
            "/srv/a share"
            "100%"
          ];
          environment.LANG = "C.UTF-8";
          environmentFile = "/etc/gateway/files.env";
        };
      };
      models = [
        {
          name = "local";
          model = "ollama/qwen3:8b";
        }
      ];
    };
  };

  # A secret store of one's own, Postgres elsewhere, a certificate of one's own.
  vault = {
    services.nginx.virtualHosts."llm.office.example" = {
      sslCertificate = "/etc/ssl/office.pem";
      sslCertificateKey = "/etc/ssl/private/office.pem";
    };
    services.gateway = {
      enable = true;
      nginx.enable = true;
      nginx.virtualHost = "llm.office.example";
      nginx.acme = false;
      database.url = "env:DATABASE_URL";
      secrets.command = [
        "/usr/local/bin/bao-env"
        "kv/gateway"
      ];
      secrets.timeout = "30s";
      settings.defaults.drop_params = true;
      models = [
        {
          name = "house";
          model = "openai_like/house-7b";
          api_base = "unix:/run/llama/llama.sock:/v1";
          extra_headers."x-team" = "home";
          params.temperature = 0.2;
        }
      ];
    };
  };
}
