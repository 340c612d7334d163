# Nginx with a certificate, Postgres over its socket, and the dump.
{
  gateway,
  module,
  pkgs,
}:
let
  certificate = pkgs.runCommand "certificate" { nativeBuildInputs = [ pkgs.openssl ]; } ''
    mkdir $out
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=llm.home.example \
      -addext subjectAltName=DNS:llm.home.example -keyout $out/key.pem -out $out/cert.pem
  '';
in
{
  name = "gateway-house";
  nodes.machine =
    {
      imports = [ module ];
      networking.hosts."127.0.0.1" = [ "llm.home.example" ];
      security.pki.certificateFiles = [ "${certificate}/cert.pem" ];
      systemd.services.upstream = import ./upstream.nix { inherit pkgs; } 8000;
      services.nginx.virtualHosts."llm.home.example" = {
        sslCertificate = "${certificate}/cert.pem";
        sslCertificateKey = "${certificate}/key.pem";
      };
      services.gateway = {
        enable = true;
        package = gateway;
        nginx.enable = true;
        nginx.virtualHost = "llm.home.example";
        nginx.acme = false;
        database.createLocally = true;
        backup.enable = true;
        secrets.files.GATEWAY_MASTER_KEY = "/var/master-key";
        models = [
          {
            name = "small";
            model = "openai_like/small";
            api_base = "http://127.0.0.1:8000/v1";
          }
        ];
      };
    };
  testScript = ''
    machine.succeed("printf sk-house > /var/master-key")
    machine.wait_for_unit("nginx.service")
    machine.wait_for_unit("postgresql.target")
    machine.wait_for_open_port(8000)
    url = "https://llm.home.example/v1/chat/completions"
    machine.fail(f"curl -fsS {url} -d '{{\"model\":\"small\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'")
    key = "-H 'authorization: Bearer sk-house'"
    machine.succeed(f"curl -fsS {key} {url} -d '{{\"model\":\"small\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}'")
    # 20 MB pass, and a stream is not held back.
    machine.succeed(
        "(printf '{\"model\":\"small\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"x\":\"'; head -c 20000000 /dev/zero | tr '\\0' a; "
        "printf '\"}') > /tmp/large"
    )
    machine.succeed(f"curl -fsS {key} {url} --data-binary @/tmp/large")
    first = machine.succeed(
        f"curl -fsSN {key} {url} -d '{{\"model\":\"small\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"stream\":true}}' "
        "-o /dev/null -w '%{time_starttransfer}'"
    )
    assert float(first) < 2, first
    machine.succeed("sudo -u gateway psql -h /run/postgresql gateway -c 'select 1'")
    rows = "sudo -u gateway psql -h /run/postgresql gateway -Atc 'select count(*) from ledger'"
    machine.wait_until_succeeds(f"test $({rows}) -ge 2")
    machine.succeed("systemctl start gateway-backup.service && test -s /var/backup/gateway/gateway.dump")
  '';
}
