"""The composition root: builds the components, connects them and stops them in order.

serve               the service: Redis, components, listeners
components          everything between the listeners and Redis
admin               the operators' API and console
account             the users' listener
optional_listeners  the listeners that are off by default
import_diet         keeps libraries from importing what is never used
"""
