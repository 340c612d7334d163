# Restarts, reloads and a switch while callers come and streams are open: nobody is refused, no stream is cut.
{
  gateway,
  module,
  pkgs,
}:
{
  name = "gateway-restart";
  nodes.machine = {
    imports = [ module ];
    systemd.services.upstream = import ./upstream.nix { inherit pkgs; } 8000;
    services.gateway = {
      enable = true;
      package = gateway;
      models = [
        {
          name = "small";
          model = "openai_like/small";
          api_base = "http://127.0.0.1:8000/v1";
        }
      ];
    };
    # Another setting and nothing else: what a switch brings.
    specialisation.changed.configuration.services.gateway.models = [
      {
        name = "another";
        model = "openai_like/another";
        api_base = "http://127.0.0.1:8000/v1";
      }
    ];
  };
  testScript = ''
    url = "http://127.0.0.1:4000/v1/chat/completions"
    machine.wait_for_unit("gateway.socket")
    machine.wait_for_open_port(8000)
    machine.succeed("curl -fsS http://127.0.0.1:4000/health/liveliness")

    stream = f"curl -fsSN {url} -d '{{\"model\":\"small\",\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}],\"stream\":true}}'"
    hammer = (
        "for i in $(seq 400); do curl -fsS -o /dev/null http://127.0.0.1:4000/health/liveliness "
        "|| echo lost >> /tmp/lost; done; touch /tmp/done"
    )

    def under_load(what):
        machine.succeed("rm -f /tmp/lost /tmp/done /tmp/stream")
        machine.succeed(f"({stream} > /tmp/stream 2>&1; echo $? >> /tmp/stream) >/dev/null 2>&1 &")
        machine.succeed(f"({hammer}) >/dev/null 2>&1 &")
        machine.wait_until_succeeds("test -s /tmp/stream")
        machine.succeed(what)
        machine.wait_until_succeeds("test -e /tmp/done")
        machine.wait_until_succeeds("grep -x 0 /tmp/stream")
        machine.succeed("grep -F '[DONE]' /tmp/stream")
        machine.fail("test -e /tmp/lost")

    for unit in ["gateway", "gateway-config", "gateway"]:
        with subtest(f"restart of {unit}"):
            under_load(f"systemctl restart {unit}.service")
    with subtest("reload"):
        under_load("systemctl reload gateway.service")
    with subtest("a switch serves the new setting and restarts nothing"):
        pid = machine.succeed("systemctl show -P MainPID gateway.service")
        under_load("/run/current-system/specialisation/changed/bin/switch-to-configuration test")
        assert "another" in machine.succeed("curl -fsS http://127.0.0.1:4000/v1/models")
        assert pid == machine.succeed("systemctl show -P MainPID gateway.service")
  '';
}
