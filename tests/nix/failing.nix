# Configurations that must be refused, one for each assertion or more; golden/assertions.txt has what is said.
let
  with' = more: { services.gateway = { enable = true; } // more; };
  key = { secrets.files.GATEWAY_MASTER_KEY = "/etc/gateway/master-key"; };
in
{
  a-file-of-the-store = with' { environmentFile = "${builtins.storeDir}/abc-gateway.env"; };
  a-path-that-would-be-copied = with' { secrets.files.GROQ_API_KEY = ./cases.nix; };
  a-key-written-out = with' {
    models = [
      {
        name = "fast";
        model = "groq/x";
        api_key = "gsk_abc";
      }
    ];
  };
  keys-of-many-shapes = with' {
    settings = {
      master_key = "sk-house";
      environment.HOUSE_TOKEN = "abc";
      environment.OLLAMA_API_BASE = "http://nas:11434";
      server.key_header = "x-house-key";
    };
    models = [
      {
        name = "a";
        model = "openai_like/a";
        api_key = [ "env:GOOD" "bad" ];
        extra_headers.Authorization = "env:GOOD";
        api_base = "https://llm.office.example/v1?key=abc";
        extra_headers.x-auth = "Bearer abc";
        params.max_tokens = 100;
      }
    ];
  };
  a-name-for-an-address = with' {
    host = "gateway.home.example";
    settings.allow_anonymous = true;
  };
  an-address-beside-the-loopback = with' { listen = [ "127.0.0.1:5000" "/run/x.sock" "4001" ]; };
  a-firewall-opened-for-a-socket = with' {
    openFirewall = true;
    listen = [ "[::1]:4000" ];
  };
  a-key-of-a-caller-written-out = with' { keys.phone.key = "hunter2"; };
  a-key-of-a-caller-in-the-settings = with' { settings.keys."my.phone".key = "hunter2"; };
  a-key-of-a-caller-from-nowhere = with' { keys.phone.models = [ "fast" ]; };
  references-from-nowhere = with' {
    database.url = "env:DATABASE_URL";
    secrets.files.GOOD = "/etc/gateway/good";
    settings.environment.HERE = "env:GOOD";
    models = [
      {
        name = "a";
        model = "openai_like/a";
        api_base = "os.environ/SOMEWHERE";
        api_key = [ "env:GOOD" "env:HERE" "env:LOST" ];
        vertex_credentials = "{\"type\": \"service_account\"}";
      }
    ];
  };
  a-secret-on-a-command-line = with' {
    secrets.command = [ "/usr/bin/printf" "GATEWAY_MASTER_KEY=house" ];
    mcpServers.files.command = [ "/usr/bin/mcp-files" "--api-token=abc" ];
    mcpServers.fine.command = [ "/usr/bin/mcp-files" "--token-file=/run/x" "--token=/run/x" "--key=env:X" "sort=key" ];
  };
  an-address-twice = with' { listen = [ "127.0.0.1:4000" "127.0.0.1:4001" "[::1]:4000" "/run/gateway.sock" ]; };
  every-address-and-one-of-them = with' {
    settings.allow_anonymous = true;
    host = "::";
    listen = [ "127.0.0.1:4000" "192.168.1.2:4001" "@abstract" ];
  };
  a-secret-in-a-unit = with' {
    mcpServers.files = {
      command = [ "/usr/bin/mcp-files" ];
      environment.GITHUB_TOKEN = "abc";
      environment.LANG = "C.UTF-8";
    };
  };
  a-password-in-a-url = with' { database.url = "postgres://gateway:secret@db.home.example/gateway"; };
  open-without-a-key = with' { host = "0.0.0.0"; };
  a-master-key-from-nowhere = with' {
    settings.master_key = "env:HOUSE_KEY";
    secrets.files.GROQ_API_KEY = "/etc/gateway/groq";
  };
  open-with-other-secrets = with' {
    host = "192.168.1.2";
    secrets.files.GROQ_API_KEY = "/etc/gateway/groq";
  };
  nginx-without-a-key = with' {
    nginx.enable = true;
    nginx.virtualHost = "llm.home.example";
  };
  nginx-without-a-name = with' (key // { nginx.enable = true; });
  a-firewall-opened-for-nothing = with' { openFirewall = true; };
  addresses-in-the-settings = with' { settings.server.listen = [ "0.0.0.0:4000" ]; };
  a-state-directory = with' { settings.state_dir = "/srv/gateway"; };
  an-idle-timeout-that-the-socket-does-not-know = with' { settings.server.idle_timeout = "15m"; };
  an-idle-timeout-of-systemd = with' { idleTimeout = "15min"; };
  an-old-systemd = {
    systemd.package = {
      outPath = "/usr";
      version = "254.9";
    };
    services.gateway = {
      enable = true;
      idleTimeout = "15m";
    };
  };
  two-databases = with' {
    database.createLocally = true;
    database.url = "env:DATABASE_URL";
  };
  a-backup-of-another-server = with' {
    backup.enable = true;
    environmentFile = "/run/secrets/gateway.env";
    database.url = "env:DATABASE_URL";
  };
  a-backup-of-a-server-that-a-secret-names = with' {
    backup.enable = true;
    secrets.files.DATABASE_URL = "/etc/gateway/database";
  };
  references-without-a-token = with' {
    secrets.onePassword.references.GATEWAY_MASTER_KEY = "op://Homelab/Gateway/credential";
  };
  no-reference = with' {
    secrets.onePassword.references.GATEWAY_MASTER_KEY = "Homelab/Gateway";
    secrets.onePassword.tokenFile = "/etc/gateway/op-token";
  };
  no-name-of-a-variable = with' { secrets.files."groq-key" = "/etc/gateway/groq"; };
  two-sources = with' (
    key
    // {
      secrets.files.GATEWAY_MASTER_KEY = "/etc/gateway/master-key";
      secrets.onePassword.references.GATEWAY_MASTER_KEY = "op://Homelab/Gateway/credential";
      secrets.onePassword.tokenFile = "/etc/gateway/op-token";
    }
  );
  a-key-with-two-sources = with' {
    keys.phone = {
      key = "os.environ/PHONE";
      file = "/etc/gateway/phone";
    };
  };
  a-key-with-a-file-and-a-hash = with' {
    keys.phone.file = "/etc/gateway/phone";
    keys.phone.hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
  };
  a-server-that-is-no-unit = with' { mcpServers."My Files".command = [ "/usr/bin/mcp-files" ]; };
  a-server-of-two-kinds = with' {
    mcpServers.files = {
      command = [ "/usr/bin/mcp-files" ];
      url = "https://files.home.example/mcp";
    };
  };
  a-server-of-no-kind = with' { mcpServers.files = { }; };
  home-assistant-with-a-path = with' (
    key
    // {
      homeAssistant.enable = true;
      homeAssistant.url = "http://ha.home.example:8123/api/mcp";
    }
  );
  home-assistant-with-two-tokens = with' {
    homeAssistant = {
      enable = true;
      token = "env:HOUSE";
      tokenFile = "/etc/gateway/home-assistant";
    };
  };
  home-assistant-without-a-token = with' { homeAssistant.enable = true; };
}
