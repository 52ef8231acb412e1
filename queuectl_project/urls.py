from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import include, path

from jobs.dashboard.sights import overview

urlpatterns = [
    path("", include("jobs.urls")),
    # The same address, by the name that the settings and the host's templates use.
    path("", overview, name="home"),
    path(
        "accounts/login/",
        LoginView.as_view(redirect_authenticated_user=True),
        name="login",
    ),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
]

handler500 = "jobs.pages.trouble.crashed"
