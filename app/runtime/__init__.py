"""The composition root: builds the components, connects them and stops them in order.

    serve               the service: listeners, components, stop
    components          everything between the public listener and Redis
    operations          health and metrics for operators
    optional_listeners  the operators' API and console, and the users' listener, where enabled
    admin               the API and the console
    account             the users' listener
    import_diet         keeps libraries from importing what is never used

Components get their dependencies in their constructors; nothing is set on them later.
"""
