"""The Ray side: replicas, applications, router and coordinator actor."""
