from . import status as status
from .evidence import cite as cite
from .evidence import record as record
from .figures import show_figure as show_figure
from .figures import show_images as show_images
from .figures import show_table as show_table
from .svg import new_figure as new_figure
