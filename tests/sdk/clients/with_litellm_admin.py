"""LiteLLM's client for the management of its proxy, with the gateway in its place."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from litellm.proxy.client import Client, UsersManagementClient
from litellm.proxy.client.exceptions import UnauthorizedError

from told import KEY, TEXT, URL, refused, same

client = Client(base_url=URL, api_key=KEY)

same("models", "small" in [model["id"] for model in client.models.list()], True)
made = client.models.new(
    model_name="late", model_params={"model": "openai/late-up", "api_key": "sk-x"}, model_info={"id": "late-1"}
)
same("a model", made["model_id"], "late-1")
same("it by its name", client.models.get(model_name="late")["model_info"]["id"], "late-1")
client.models.update(model_id="late-1", model_params={"model": "openai/later-up"}, model_info={"note": "kept"})
changed = client.models.get(model_id="late-1")
same("it changed", (changed["litellm_params"]["model"], changed["model_info"]["note"]), ("openai/later-up", "kept"))
client.models.delete(model_id="late-1")
same("it gone", "late" in [model["id"] for model in client.models.list()], False)
same("groups", "small" in [group["model_group"] for group in client.model_groups.info()], True)

key = client.keys.generate(models=["small"], aliases={}, duration="24h", key_alias="laptop", user_id="ann")
same("a key's info", client.keys.info(key["key"])["info"]["key_alias"], "laptop")
listed = client.keys.list(page=1, size=5, return_full_object=True)
same("keys", [one["key_alias"] for one in listed["keys"]], ["laptop"])
own = Client(base_url=URL, api_key=key["key"])
question = [{"role": "user", "content": "Say hello."}]
same("a call with it", own.chat.completions(model="small", messages=question)["choices"][0]["message"]["content"], TEXT)
client.keys.delete(keys=[key["key"]])
refused("401", UnauthorizedError, own.models.list)

client.credentials.create("house", {"custom_llm_provider": "openai"}, {"api_key": "sk-of-the-house-1234"})
held = client.credentials.get(credential_name="house")
same("a credential", held["credential_values"], {"api_key": "****1234"})
client.credentials.delete(credential_name="house")
same("credentials", client.credentials.list()["credentials"], [])

users = UsersManagementClient(base_url=URL, api_key=KEY)
users.create_user({"user_id": "bob", "user_email": "bob@home", "user_role": "internal_user"})
same("a user", users.get_user("bob")["user_info"]["user_email"], "bob@home")
same("users", [user["user_id"] for user in users.list_users()], ["bob"])
users.delete_user(["bob"])
same("teams", client.teams.list(), [])
